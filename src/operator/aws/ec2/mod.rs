//! What only the program asks of EC2.

mod disks;
mod drill;
mod evidence;
mod machine;
mod survey;
