//! What both kinds of tests look for in a text.

/// The ids of resources in it.
pub fn resource_ids(text: &str) -> Vec<&str> {
    let prefixes = ["i-", "sg-", "eni-", "subnet-", "vpc-", "vol-", "snap-"];
    let is_hexadecimal = |rest: &str| rest.bytes().all(|b| b.is_ascii_hexdigit()) && !rest.is_empty();
    let is_id = |word: &&str| prefixes.iter().any(|prefix| word.strip_prefix(prefix).is_some_and(is_hexadecimal));
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(is_id).collect()
}
