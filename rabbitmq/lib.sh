# shellcheck shell=bash
# Shared by rabbitmq/up, down and restart: where things lie, and how a node of our own is started and stopped.
# Sourced, never run.

readonly BROKER_DIR=${BASH_SOURCE[0]%/*}
PROJECT=$(cd "$BROKER_DIR/.." && pwd -P)
readonly PROJECT
readonly STATE=$PROJECT/.leveret
readonly MAIN=main
# A first start takes some seconds, more on a slow disk; this is when we stop believing in it.
readonly START_SECONDS=${LEVERET_START_SECONDS:-120}
readonly STOP_SECONDS=60

quiet=''
say() { [[ -n $quiet ]] || printf '%s\n' "$*" >&2; }
complain() { printf '%s\n' "$*" >&2; }
die() { complain "rabbitmq: $1"; shift; for line; do complain "  $line"; done; exit 1; }

probe() { "$BROKER_DIR/probe" "$@"; }

# The value of one option that takes an argument.
needs_value() { [[ -n ${2:-} && ${2:-} != -* ]] || die "$1 needs a value"; }
check_node_name() {
  [[ $1 =~ ^[a-z0-9][a-z0-9_-]{0,39}$ && $1 != "$MAIN" ]] \
    || die "'$1' is no node name" "use up to 40 of a-z, 0-9, - and _, and not '$MAIN'"
}

# Where a node keeps everything: data, log, conf, home, ports, env.
node_dir() { if [[ $1 == "$MAIN" ]]; then echo "$STATE/rabbitmq"; else echo "$STATE/nodes/$1"; fi; }
# Two checkouts on one machine must not meet in Erlang's name table, so the path is part of the name.
node_name() { printf 'leveret-%s-%s@localhost' "$1" "$(printf '%s' "$PROJECT" | cksum | cut -d' ' -f1)"; }

# One `up` or `down` of a node at a time; the lock goes with the process. The node itself must not inherit it (9>&-).
lock_node() {
  local dir
  dir=$(node_dir "$1")
  mkdir -p "$dir" 2>/dev/null || die "cannot write to $STATE" "it belongs to $(stat -c %U "$STATE" 2>/dev/null || echo someone else): sudo chown -R $(id -un) $STATE"
  exec 9>"$dir/lock" || die "cannot write to $dir" "it belongs to $(stat -c %U "$dir"): sudo chown -R $(id -un) $STATE"
  if command -v flock >/dev/null; then
    flock -w $((START_SECONDS + STOP_SECONDS)) 9 || die "another rabbitmq/up or down has been at work on '$1' for minutes" "look for it: fuser $dir/lock"
  fi
}

# env is how everyone else finds the broker: replaced in one step, so a reader never sees half of it.
write_env() { # node kind amqp_url management_url [amqps_url]
  local file
  file=$(node_dir "$1")/env
  printf 'BROKER_KIND=%s\nAMQP_URL=%s\nMANAGEMENT_URL=%s\n' "$2" "$3" "$4" >"$file.new"
  [[ -z ${5:-} ]] || printf 'AMQPS_URL=%s\n' "$5" >>"$file.new"
  mv "$file.new" "$file"
}
# Prints one value of a node's env, nothing if there is none.
read_env() { sed -n "s/^$2=//p" "$(node_dir "$1")/env" 2>/dev/null || true; }

# The operating system's id of a node's Erlang process, if it runs. Looked up by its home folder, which stands in its
# command line: a pid file is gone before the process is, and after a kill its number may belong to someone else.
node_pid() {
  local found
  # One argument a line (-z), the whole of it (-x); read from standard input, or grep would find itself.
  # shellcheck disable=SC2062 # the shell is to expand the glob: these are the files
  found=$(grep -lszxF -f - /proc/[0-9]*/cmdline <<<"$(node_dir "$1")/home" | head -n 1) || true
  found=${found#/proc/}
  [[ -n $found ]] && echo "${found%/cmdline}"
}

# --- ports ---

port_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
# Who holds a port, as well as this machine can tell.
port_holder() {
  local who=''
  command -v ss >/dev/null && who=$(ss -Hltnp "sport = :$1" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/\1, process \2/p' | head -1)
  echo "${who:-another program}"
}

# Gives a node its ports and keeps them: a client that reconnects after a restart must find the same address.
# Ports promised to our other nodes count as taken even while those are down.
choose_ports() {
  local name=$1 dir file lock_fd taken_by_us port kind first
  local -A chosen=()
  dir=$(node_dir "$name") file=$dir/ports
  exec {lock_fd}>"$STATE/ports.lock"
  command -v flock >/dev/null && flock "$lock_fd"
  taken_by_us=" $(find "$STATE" -maxdepth 3 -name ports ! -path "$file" -exec sed 's/.*=//' {} + 2>/dev/null | tr '\n' ' ')"
  local kinds=(AMQP:5672 MANAGEMENT:15672 PROMETHEUS:15692 DISTRIBUTION:25672)
  [[ ! -d $dir/tls ]] || kinds+=(TLS:5671)
  for kind in "${kinds[@]}"; do
    first=${kind#*:} kind=${kind%:*}
    port=$(sed -n "s/^$kind=//p" "$file" 2>/dev/null || true)
    if [[ -z $port ]] || port_taken "$port"; then
      [[ -z $port ]] || say "port $port, used here before, is now taken by $(port_holder "$port")"
      # Private nodes stay clear of the standard ports: those are for the node that people look for.
      [[ $name == "$MAIN" ]] || first=$((first + 100))
      for ((port = first; port < first + 90; port++)); do
        [[ $taken_by_us == *" $port "* ]] && continue
        port_taken "$port" || break
        [[ $name == "$MAIN" && $port == "$first" ]] && say "port $port is taken by $(port_holder "$port"): looking for another"
      done
      ((port < first + 90)) || die "no free port between $first and $port" "rabbitmq/down --all --wipe gives back the ports of our own nodes"
    fi
    chosen[$kind]=$port taken_by_us+="$port "
  done
  for kind in "${!chosen[@]}"; do printf '%s=%s\n' "$kind" "${chosen[$kind]}"; done >"$file.new"
  mv "$file.new" "$file"
  exec {lock_fd}>&-
}
node_port() { sed -n "s/^$2=//p" "$(node_dir "$1")/ports"; }

# --- a node of our own ---

# The start script itself. The one in /usr/sbin of Debian insists on root or its own user.
server_script() {
  local candidate
  for candidate in /usr/lib/rabbitmq/bin/rabbitmq-server /opt/rabbitmq/sbin/rabbitmq-server \
    /opt/homebrew/sbin/rabbitmq-server /usr/local/sbin/rabbitmq-server; do
    [[ -x $candidate ]] && { echo "$candidate"; return; }
  done
  return 1
}

# What belongs to this machine rather than to the broker as such: addresses, and figures that are fresh enough to test by.
write_local_settings() {
  local dir=$1 name=$2
  mkdir -p "$dir"/{data,log,home,conf/conf.d}
  chmod 700 "$dir/home"
  cat >"$dir/conf/conf.d/90-local.conf" <<CONF
# Written by rabbitmq/up at every start; change rabbitmq/rabbitmq.conf instead.
listeners.tcp.local = 127.0.0.1:$(node_port "$name" AMQP)
management.tcp.ip = 127.0.0.1
management.tcp.port = $(node_port "$name" MANAGEMENT)
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = $(node_port "$name" PROMETHEUS)
log.console = false
log.file = rabbit.log
log.file.level = info
# The console's figures are a second old, not five.
collect_statistics_interval = 1000
CONF
  if [[ -d $dir/tls ]]; then
    cat >>"$dir/conf/conf.d/90-local.conf" <<CONF
listeners.ssl.local = 127.0.0.1:$(node_port "$name" TLS)
ssl_options.cacertfile = $dir/tls/ca.pem
ssl_options.certfile = $dir/tls/certificate.pem
ssl_options.keyfile = $dir/tls/key.pem
CONF
    if [[ -e $dir/tls/clients ]]; then
      printf 'ssl_options.%s\n' 'verify = verify_peer' 'fail_if_no_peer_cert = true' >>"$dir/conf/conf.d/90-local.conf"
    fi
  fi
  # rabbitmq.conf has no word for this one: how often a quorum queue reports its depth.
  echo '[{rabbit, [{quorum_tick_interval, 1000}]}].' >"$dir/conf/advanced.config"
}

# What both the node and rabbitmqctl must know to meet. Exports it: call it in a subshell.
enter_node() {
  local dir
  dir=$(node_dir "$1")
  cd "$dir" || exit 1
  export HOME=$dir/home # where the cookie lies
  export ERL_EPMD_ADDRESS=127.0.0.1
  export RABBITMQ_CONF_ENV_FILE=$dir/conf/rabbitmq-env.conf # there is none: /etc/rabbitmq must not reach into this node
  RABBITMQ_NODENAME=$(node_name "$1")
  export RABBITMQ_NODENAME RABBITMQ_USE_LONGNAME=false
}

start_node() {
  local name=$1 dir script
  dir=$(node_dir "$name")
  script=$(server_script) || die "RabbitMQ is not installed here"
  write_local_settings "$dir" "$name"
  rm -f "$dir/env"
  : >"$dir/log/startup.log"
  (
    enter_node "$name"
    RABBITMQ_DIST_PORT=$(node_port "$name" DISTRIBUTION)
    export RABBITMQ_DIST_PORT
    export RABBITMQ_CONFIG_FILE=$PROJECT/rabbitmq/rabbitmq.conf
    export RABBITMQ_CONFIG_FILES=$dir/conf/conf.d
    export RABBITMQ_ADVANCED_CONFIG_FILE=$dir/conf/advanced.config
    export RABBITMQ_GENERATED_CONFIG_DIR=$dir/conf/generated
    export RABBITMQ_ENABLED_PLUGINS_FILE=$PROJECT/rabbitmq/enabled_plugins
    export RABBITMQ_MNESIA_BASE=$dir/data RABBITMQ_MNESIA_DIR=$dir/data/node
    export RABBITMQ_FEATURE_FLAGS_FILE=$dir/data/feature_flags
    export RABBITMQ_PLUGINS_EXPAND_DIR=$dir/data/plugins
    export RABBITMQ_LOG_BASE=$dir/log RABBITMQ_LOGS=$dir/log/rabbit.log
    export RABBITMQ_PID_FILE=$dir/data/pid ERL_CRASH_DUMP=$dir/log/erl_crash.dump
    # Idle schedulers sleep at once instead of spinning, and Erlang's own port stays on this machine.
    export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}'
    unset RABBITMQ_NODE_PORT RABBITMQ_SERVER_START_ARGS NOTIFY_SOCKET
    # A session of its own: Ctrl-C in the terminal, or a test runner that clears up after a test, must not take the node along.
    exec setsid "$script" </dev/null >>"$dir/log/startup.log" 2>&1 9>&- &
    echo $! >"$dir/launcher"
  )
  wait_until_it_serves "$name"
}

# A node serves when a user can log in and the management API, which starts last, answers.
wait_until_it_serves() {
  local name=$1 dir amqp management amqps='' deadline why=''
  dir=$(node_dir "$name")
  amqp=amqp://guest:guest@127.0.0.1:$(node_port "$name" AMQP)/%2f
  management=http://guest:guest@127.0.0.1:$(node_port "$name" MANAGEMENT)
  deadline=$((SECONDS + START_SECONDS))
  until why=$(probe "$amqp" 2>&1 >/dev/null) && why=$(probe --http "$management" 2>&1 >/dev/null); do
    if ! kill -0 "$(cat "$dir/launcher")" 2>/dev/null && ! node_pid "$name" >/dev/null; then
      explain_failure "$name" "the node stopped while starting"
    fi
    ((SECONDS < deadline)) || explain_failure "$name" "the node does not serve after $START_SECONDS s: $why"
    sleep 0.2
  done
  [[ ! -d $dir/tls ]] || amqps=amqps://guest:guest@127.0.0.1:$(node_port "$name" TLS)/%2f
  write_env "$name" node "$amqp" "$management" "$amqps"
}

# Says what the log says, and what to do about the causes that come up again and again.
explain_failure() {
  local name=$1 what=$2 dir text hint
  dir=$(node_dir "$name")
  # What went wrong stands first; the supervisors' obituaries after it help nobody.
  text=$(grep -hE '\[(error|critical)\]|rror|denied' "$dir/log/startup.log" 2>/dev/null | grep -vE '\] <[0-9.]+> *$' || true)
  [[ -n $text ]] || text=$(tail -q -n 15 "$dir/log/startup.log" "$dir/log/rabbit.log" 2>/dev/null || true)
  case $text in
    *"rror parsing configuration"* | *"failed_to_parse"* | *"failed_to_prepare_configuration"*) hint="rabbitmq/rabbitmq.conf has a line that this RabbitMQ does not know" ;;
    *eaddrinuse*) hint="a port was taken in the meantime: call rabbitmq/up again, it will choose another" ;;
    *"name of the node"* | *"node with name"* | *nodename*use*) hint="a node of this name still runs: rabbitmq/down, then rabbitmq/up" ;;
    *eacces* | *"ermission denied"*) hint="files under $dir belong to another user: sudo chown -R $(id -un) $STATE" ;;
    *enospc* | *"o space left"*) hint="the disk is full: df -h $dir" ;;
    *schema* | *"feature flag"* | *"eature flags"*) hint="the data may be of another RabbitMQ version: rabbitmq/down --wipe throws it away and begins anew" ;;
    *) hint="the whole log: $dir/log/rabbit.log and startup.log; rabbitmq/down --wipe begins anew" ;;
  esac
  complain "rabbitmq: $what"
  complain "  $hint"
  complain "  free on that disk: $(df -h --output=avail "$dir" 2>/dev/null | tail -n 1 | tr -d ' ')"
  complain "  its log says:"
  grep -v '^$' <<<"$text" | head -n 12 | cut -c1-240 | sed 's/^/  | /' >&2
  exit 1
}

# Stops a node: politely, or as a power cut would.
stop_node() { # name [--kill]
  local name=$1 pid dir deadline=$((SECONDS + STOP_SECONDS))
  dir=$(node_dir "$name")
  if pid=$(node_pid "$name"); then
    if [[ ${2:-} == --kill ]]; then kill -KILL "$pid"; else kill -TERM "$pid"; fi
    while [[ -n $(node_pid "$name") ]]; do
      if ((SECONDS >= deadline)); then
        complain "rabbitmq: node '$name' (process $pid) did not stop within $STOP_SECONDS s: killing it"
        kill -KILL "$pid" 2>/dev/null || true
        deadline=$((SECONDS + STOP_SECONDS))
      fi
      sleep 0.1
    done
  fi
  rm -f "$dir/env" "$dir/launcher"
}
