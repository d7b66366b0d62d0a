//! What only the program asks of the records table.

mod archive;
mod digest;
mod question;
