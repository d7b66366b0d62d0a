//! The repository itself: the shape of the source, and the pages against it.

mod docs;
mod release;
mod tidy;
