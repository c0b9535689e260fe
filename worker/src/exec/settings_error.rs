/// Why a `[tasks."name"]` table cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecSettingsError {
    /// The table does not say what to run.
    #[error(
        "neither `command` nor `http` is set: write command = [\"program\", \"argument\"] or http = {{ url = \"https://…\" }}"
    )]
    Neither,
    /// The table says two things to run.
    #[error("both `command` and `http` are set: keep one, and give the other a task name of its own")]
    Both,
    /// The command has no program.
    #[error("`command` names no program: write command = [\"program\", \"argument\"] or command = \"shell text\"")]
    NoProgram,
    /// An option for commands stands in a table with `http`.
    #[error("`{option}` is for commands and does nothing for `http`: remove it")]
    CommandOnly {
        /// Key of the option.
        option: &'static str,
    },
    /// The timeout is zero.
    #[error("`timeout` is zero: write a length of time, such as \"30s\", or remove it for the worker's default")]
    ZeroTimeout,
    /// A permanent exit code that no failure has.
    #[error("{code} in `permanent_exit_codes` is no exit code of a failure: use 1 to 255")]
    ExitCode {
        /// The code.
        code: i32,
    },
    /// A program, an argument, a directory or a variable that no process can be given.
    #[error("{what} cannot be handed to a process: {reason}")]
    Unusable {
        /// Which part of the settings.
        what: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An environment variable or a header that carries a fact about the task.
    #[error("`{name}` is set by the worker for each task: choose another name")]
    Reserved {
        /// Name of the variable or header.
        name: String,
    },
    /// The URL cannot be read.
    #[error("{url:?} is no URL: write it in full, such as \"https://host/path\"")]
    UnreadableUrl {
        /// The text of the settings.
        url: String,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The URL is of a kind that is not called.
    #[error("the URL of `http` {problem}")]
    Url {
        /// What is wrong with it and the way out.
        problem: &'static str,
    },
    /// The method is no HTTP method.
    #[error("{method:?} is no HTTP method: write one in capitals, such as \"POST\"")]
    Method {
        /// The text of the settings.
        method: String,
    },
    /// A header that HTTP does not allow.
    #[error(
        "header {name:?} cannot be sent: a name is made of letters, digits and hyphens, a value has no line breaks"
    )]
    Header {
        /// Name of the header.
        name: String,
    },
    /// The HTTP client could not be made.
    #[error("the HTTP client could not be made: check that the system's CA certificates are installed")]
    Client {
        /// What went wrong.
        source: reqwest::Error,
    },
}
