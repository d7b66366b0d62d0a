//! Restoring: everything as it was, and nothing while a stack rolls back.

mod exact;
mod meanwhile;
mod rollback;
