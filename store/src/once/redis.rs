//! Marks in Redis: a hash for each, changed by scripts, which Redis runs one at a time.

use std::{fmt, num::ParseIntError, sync::LazyLock, time::Duration};

use futures_util::future::{BoxFuture, FutureExt};
use leveret_common::{
    clock::{Clock, UnixMillis},
    once::{Claim, Mark, OnceError, OnceStore},
    task::TaskId,
};
use redis::{
    Client, FromRedisValue, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

use crate::{StoreError, error::once_error};

/// What all scripts begin with. The time that counts is the worker's: Redis only clears away what is over, a minute
/// late, so that clocks that differ by less do not matter.
const COMMON: &str = "
    local key, task, holder, now = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
    local its = redis.call('HMGET', key, 'task', 'holder', 'state', 'until')
    local live = its[4] and tonumber(its[4]) > now
    local mine = live and its[3] == 'running' and its[2] == holder
    local function put(state, length)
        redis.call('HSET', key, 'task', task, 'holder', holder, 'state', state, 'until', string.format('%.0f', now + length))
        redis.call('PEXPIRE', key, string.format('%.0f', length + 60000))
    end
";

const CLAIM: &str = "
    if live then
        if its[1] ~= task then return {'duplicate', its[1]} end
        if its[3] == 'done' then return {'done', ''} end
        if its[3] == 'running' and not mine and ARGV[5] ~= '1' then return {'busy', its[4]} end
    end
    put('running', tonumber(ARGV[4]))
    return {'first', ''}
";
const EXTEND: &str = "
    if not mine then return 0 end
    put('running', tonumber(ARGV[4]))
    return 1
";
const DONE: &str = "
    if live and its[1] ~= task then return 0 end
    put('done', tonumber(ARGV[4]))
    return 1
";
const RELEASE: &str = "
    if mine then put('waiting', tonumber(ARGV[4])) end
    return 1
";
const FORGET: &str = "
    if mine then redis.call('DEL', key) end
    return 1
";

static SCRIPTS: LazyLock<[Script; 5]> =
    LazyLock::new(|| [CLAIM, EXTEND, DONE, RELEASE, FORGET].map(|body| Script::new(&format!("{COMMON}{body}"))));

/// Longest length of time that a script is given: a century. Beyond, Lua's numbers and Redis's would run over.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Marks in Redis: for workers on any number of machines.
///
/// As safe as the Redis: what it loses in a crash is not remembered, and neither is what it evicts. Give it
/// `appendonly yes` and `maxmemory-policy noeviction`. Cheap to clone; the connection comes back by itself.
#[derive(Clone)]
pub struct RedisOnce {
    connection: ConnectionManager,
    prefix: String,
    clock: Clock,
}

impl RedisOnce {
    /// Connects to `redis://[user:password@]host[:port]/[database]`, or `rediss://` for TLS. Redis 4 or later.
    ///
    /// # Errors
    /// [`StoreError::Connect`].
    pub async fn connect(url: &str, clock: Clock) -> Result<Self, StoreError> {
        let failed = |error| StoreError::connect("Redis", error);
        let client = Client::open(url).map_err(failed)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(5)))
            .set_response_timeout(Some(Duration::from_secs(2)));
        let connection = client.get_connection_manager_with_config(config).await.map_err(failed)?;
        Ok(Self { connection, prefix: "leveret:once:".to_owned(), clock })
    }

    /// Sets what the names of all keys begin with. Default `leveret:once:`.
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    async fn run<T: FromRedisValue>(
        &self,
        script: usize,
        mark: &Mark,
        length: Duration,
        redelivered: bool,
    ) -> Result<T, OnceError> {
        let mut connection = self.connection.clone();
        let length = u64::try_from(length.min(LONGEST).as_millis()).unwrap_or(u64::MAX);
        SCRIPTS[script]
            .key(format!("{}{}", self.prefix, mark.key()))
            .arg(mark.task_id().as_str())
            .arg(mark.holder())
            .arg(self.clock.now().0)
            .arg(length)
            .arg(u8::from(redelivered))
            .invoke_async(&mut connection)
            .await
            .map_err(once_error)
    }

    async fn change(&self, script: usize, mark: &Mark, length: Duration) -> Result<(), OnceError> {
        match self.run::<i64>(script, mark, length, false).await? {
            1 => Ok(()),
            _ => Err(OnceError::Lost { key: mark.key().to_owned() }),
        }
    }
}

impl fmt::Debug for RedisOnce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisOnce").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl OnceStore for RedisOnce {
    fn claim<'a>(&'a self, mark: &'a Mark, redelivered: bool) -> BoxFuture<'a, Result<Claim, OnceError>> {
        async move {
            let (verdict, detail): (String, String) = self.run(0, mark, mark.leased_for(), redelivered).await?;
            match verdict.as_str() {
                "first" => Ok(Claim::First),
                "done" => Ok(Claim::Done),
                "busy" => Ok(Claim::Busy {
                    until: UnixMillis(detail.parse().map_err(|error: ParseIntError| once_error(error))?),
                }),
                _ => Ok(Claim::Duplicate { of: TaskId::try_from(detail).map_err(once_error)? }),
            }
        }
        .boxed()
    }

    fn extend<'a>(&'a self, mark: &'a Mark) -> BoxFuture<'a, Result<(), OnceError>> {
        self.change(1, mark, mark.leased_for()).boxed()
    }

    fn done<'a>(&'a self, mark: &'a Mark) -> BoxFuture<'a, Result<(), OnceError>> {
        self.change(2, mark, mark.remembered_for()).boxed()
    }

    fn release<'a>(&'a self, mark: &'a Mark) -> BoxFuture<'a, Result<(), OnceError>> {
        self.change(3, mark, mark.remembered_for()).boxed()
    }

    fn forget<'a>(&'a self, mark: &'a Mark) -> BoxFuture<'a, Result<(), OnceError>> {
        self.change(4, mark, Duration::ZERO).boxed()
    }
}
