//! Time: when the answer is due, what EC2's buckets give, what time of day it is, who shares a call.

pub mod clock;
pub mod gate;
pub mod gather;
pub mod limit;
pub mod pace;
