//! One conditional write of one item, as DynamoDB's expressions say it.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use super::item::{lines, set};

/// An expression has at most 4,096 bytes and 300 operators (DynamoDB quotas): with so many entries in each of two maps our
/// longest one stays below both.
pub(crate) const PORTION: usize = 25;

/// DynamoDB keeps these words for itself: in an expression they are `#Owner` and `#State`.
const RESERVED: [&str; 2] = ["Owner", "State"];

/// What to change, and on what condition. The value of an attribute `Name` is `:Name` in the condition, too.
#[derive(Debug, Default)]
pub(crate) struct Edit {
    sets: Vec<String>,
    removes: Vec<String>,
    adds: Vec<String>,
    deletes: Vec<String>,
    pub condition: String,
    keys: HashMap<String, String>,
    pub values: HashMap<String, AttributeValue>,
}

fn alias(name: &str) -> String {
    if RESERVED.contains(&name) { format!("#{name}") } else { name.to_owned() }
}

impl Edit {
    pub fn only_if(condition: impl Into<String>) -> Self {
        Self { condition: condition.into(), ..Self::default() }
    }

    pub fn and(mut self, condition: &str) -> Self {
        self.condition.push_str(" AND ");
        self.condition.push_str(condition);
        self
    }

    /// What `placeholder` is.
    pub fn with(mut self, placeholder: impl Into<String>, value: AttributeValue) -> Self {
        self.values.insert(placeholder.into(), value);
        self
    }

    pub fn set(mut self, name: &str, value: AttributeValue) -> Self {
        self.sets.push(format!("{} = :{name}", alias(name)));
        self.with(format!(":{name}"), value)
    }

    pub fn set_or_remove(self, name: &str, value: Option<AttributeValue>) -> Self {
        match value {
            Some(value) => self.set(name, value),
            None => self.remove(&[name]),
        }
    }

    /// Sets or removes what is still as it was, and keeps beside it what it was.
    pub fn replace(self, name: &str, before: Option<&AttributeValue>, value: Option<AttributeValue>) -> Self {
        let edit = match before {
            Some(before) => {
                let kept = format!("{name}Before");
                self.and(&format!("{} = :{kept}", alias(name))).set(&kept, before.clone())
            }
            None => self.and(&format!("attribute_not_exists({})", alias(name))),
        };
        edit.set_or_remove(name, value)
    }

    /// Sets what is not there yet.
    pub fn set_missing(mut self, name: &str, value: AttributeValue) -> Self {
        self.sets.push(format!("{name} = if_not_exists({name}, :{name})"));
        self.with(format!(":{name}"), value)
    }

    /// Adds entries to a map; one that is there stays as it is.
    pub fn fill(mut self, map: &str, entries: impl IntoIterator<Item = (String, AttributeValue)>) -> Self {
        for (key, value) in entries {
            let n = self.keys.len();
            self.sets.push(format!("{map}.#k{n} = if_not_exists({map}.#k{n}, :v{n})"));
            self.keys.insert(format!("#k{n}"), key);
            self.values.insert(format!(":v{n}"), value);
        }
        self
    }

    /// Adds a line to the history.
    pub fn log(mut self, line: String) -> Self {
        self.sets.push("History = list_append(if_not_exists(History, :past), :line)".to_owned());
        self.with(":past", lines([])).with(":line", lines([line]))
    }

    pub fn remove(mut self, names: &[&str]) -> Self {
        self.removes.extend(names.iter().map(|name| (*name).to_owned()));
        self
    }

    /// Adds members to a set; DynamoDB has no empty ones.
    pub fn add<T: ToString>(mut self, name: &str, members: impl IntoIterator<Item = T>) -> Self {
        let Some(members) = set(members) else { return self };
        self.adds.push(format!("{name} :{name}"));
        self.with(format!(":{name}"), members)
    }

    /// Takes members out of a set.
    pub fn delete<T: ToString>(mut self, name: &str, members: impl IntoIterator<Item = T>) -> Self {
        let Some(members) = set(members) else { return self };
        self.deletes.push(format!("{name} :{name}"));
        self.with(format!(":{name}"), members)
    }

    /// None of an edit that needs none.
    pub fn condition(&self) -> Option<String> {
        Some(self.condition.clone()).filter(|condition| !condition.is_empty())
    }

    pub fn expression(&self) -> String {
        let clauses = [("SET", &self.sets), ("REMOVE", &self.removes), ("ADD", &self.adds), ("DELETE", &self.deletes)];
        let clauses = clauses.into_iter().filter(|(_, parts)| !parts.is_empty());
        clauses.map(|(verb, parts)| format!("{verb} {}", parts.join(", "))).collect::<Vec<_>>().join(" ")
    }

    /// DynamoDB refuses names that nothing uses.
    pub fn names(&self) -> Option<HashMap<String, String>> {
        let text = format!("{} {}", self.condition, self.expression());
        let reserved = RESERVED.iter().filter(|name| text.contains(&alias(name)));
        let reserved = reserved.map(|name| (alias(name), (*name).to_owned()));
        Some(self.keys.clone().into_iter().chain(reserved).collect()).filter(|names: &HashMap<_, _>| !names.is_empty())
    }
}
