//! What the broker objects to, in RabbitMQ's words: clients read them.

/// Why a channel is closed or, from 500 on, its whole connection.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) code: u16,
    pub(super) text: String,
}

impl Fault {
    pub(super) fn no_queue(name: &str) -> Self {
        Self { code: 404, text: format!("NOT_FOUND - no queue '{name}' in vhost '/'") }
    }

    pub(super) fn no_exchange(name: &str) -> Self {
        Self { code: 404, text: format!("NOT_FOUND - no exchange '{name}' in vhost '/'") }
    }

    pub(super) fn locked(queue: &str) -> Self {
        let text = format!("RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'");
        Self { code: 405, text }
    }

    pub(super) fn precondition(text: impl std::fmt::Display) -> Self {
        Self { code: 406, text: format!("PRECONDITION_FAILED - {text}") }
    }

    pub(super) fn in_use(what: &str, name: &str) -> Self {
        Self { code: 403, text: format!("ACCESS_REFUSED - {what} '{name}' in vhost '/' in exclusive use") }
    }

    pub(super) fn unknown_kind(kind: &str) -> Self {
        Self { code: 503, text: format!("COMMAND_INVALID - unknown exchange type '{kind}'") }
    }

    pub(super) fn not_implemented(what: &str) -> Self {
        Self { code: 540, text: format!("NOT_IMPLEMENTED - the memory broker does not know {what}") }
    }

    /// Whether the whole connection goes.
    pub(super) fn is_hard(&self) -> bool {
        self.code >= 500
    }
}
