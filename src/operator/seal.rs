//! A file of JSON that carries the SHA-256 of all its other lines, as its last field. Pure.

use serde::Serialize;

use crate::model::sha256;

const FIELD: &str = "  \"sha256\": \"";

/// Pretty-printed, with the digest on a line of its own.
pub(super) fn seal(value: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    let fields = text.strip_suffix("\n}").unwrap_or_default();
    let digest = sha256(&format!("{fields},\n}}\n"));
    format!("{fields},\n{FIELD}{digest}\"\n}}\n")
}

/// What compares a file with the digest in it.
pub(super) fn check(file: &str) -> String {
    format!("grep -v '^{}' {} | sha256sum", FIELD.trim_end_matches('"').trim_end(), super::shell::quoted(file))
}

/// The digest of a sealed text; nothing if the text is not what that says.
pub(super) fn open(text: &str) -> Option<String> {
    let is_seal = |line: &&str| line.starts_with(FIELD);
    let seal = text.lines().find(is_seal)?;
    let digest = seal.strip_prefix(FIELD)?.strip_suffix('"')?;
    let others: String = text.lines().filter(|line| !is_seal(line)).map(|line| format!("{line}\n")).collect();
    (sha256(&others) == digest).then(|| digest.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_seal_holds_until_anything_is_changed() {
        let value: BTreeMap<&str, &str> = [("a", "1"), ("b", "2\n  \"sha256\": \"x\"")].into();
        let text = seal(&value);
        assert_eq!(
            open(&text).as_deref(),
            text.lines().rev().nth(1).unwrap().strip_prefix(FIELD).unwrap().strip_suffix('"')
        );
        assert_eq!(open(&text.replace("\"1\"", "\"3\"")), None);
        assert_eq!(open(text.replace(FIELD, "  \"md5\": \"").as_str()), None);
        assert_eq!(check("a b"), "grep -v '^  \"sha256\":' 'a b' | sha256sum");
    }
}
