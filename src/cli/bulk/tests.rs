//! A bulk against the real service and the sandbox, without a terminal.
