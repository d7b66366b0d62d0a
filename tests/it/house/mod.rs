//! The repository itself: the shape of the source, the pages against it, and how its Makefile builds.

mod build;
mod docs;
mod prose;
mod release;
mod tidy;
