//! Figures of an incident, as lines of the log from which CloudWatch makes metrics (its embedded metric format): without a call.
//!
//! Namespace `ec2-isolation`; each metric for the incident (dimension `Incident`, the name of its stack) and over all. **That one
//! incident has none of something says nothing of the others**: a count of zero is the incident's only.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

const NAMESPACE: &str = "ec2-isolation";

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    name: &'static str,
    unit: &'static str,
    value: f64,
}

impl Metric {
    #[must_use]
    pub fn count(name: &'static str, count: usize) -> Self {
        Self { name, unit: "Count", value: f64::from(u32::try_from(count).unwrap_or(u32::MAX)) }
    }

    fn is_zero(&self) -> bool {
        self.unit == "Count" && self.value <= 0.0
    }

    #[must_use]
    pub fn seconds(name: &'static str, value: f64) -> Self {
        Self { name, unit: "Seconds", value }
    }
}

/// Writes them for one incident, or over all. Nothing is said of none.
#[allow(clippy::print_stdout)] // CloudWatch reads them from there.
pub fn write(incident: Option<&str>, metrics: &[Metric]) {
    if metrics.is_empty() {
        return;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    println!("{}", line(incident, u64::try_from(now.as_millis()).unwrap_or_default(), metrics));
}

/// CloudWatch User Guide, "Specification: Embedded metric format".
fn line(incident: Option<&str>, milliseconds: u64, metrics: &[Metric]) -> Value {
    let directive = |dimensions: Value, metrics: &[&Metric]| {
        let names: Vec<Value> =
            metrics.iter().map(|metric| json!({"Name": metric.name, "Unit": metric.unit})).collect();
        (!names.is_empty()).then(|| json!({"Namespace": NAMESPACE, "Dimensions": dimensions, "Metrics": names}))
    };
    let (zero, some): (Vec<&Metric>, Vec<&Metric>) = metrics.iter().partition(|metric| metric.is_zero());
    let directives = match incident {
        Some(_) => [directive(json!([["Incident"]]), &zero), directive(json!([["Incident"], []]), &some)],
        None => [directive(json!([[]]), &metrics.iter().collect::<Vec<_>>()), None],
    };
    let directives: Vec<Value> = directives.into_iter().flatten().collect();
    let mut line =
        Map::from_iter([("_aws".to_owned(), json!({"Timestamp": milliseconds, "CloudWatchMetrics": directives}))]);
    line.extend(incident.map(|incident| ("Incident".to_owned(), json!(incident))));
    line.extend(metrics.iter().map(|metric| (metric.name.to_owned(), json!(metric.value))));
    Value::Object(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_cloudwatch_is_to_make_of_it() {
        let metrics = [Metric::count("NotIsolated", 2), Metric::seconds("SecondsToContain", 1.5)];
        let expected = json!({
            "_aws": {"Timestamp": 1_764_143_921_000_u64, "CloudWatchMetrics": [{
                "Namespace": "ec2-isolation", "Dimensions": [["Incident"], []],
                "Metrics": [{"Name": "NotIsolated", "Unit": "Count"}, {"Name": "SecondsToContain", "Unit": "Seconds"}],
            }]},
            "Incident": "ir-1", "NotIsolated": 2.0, "SecondsToContain": 1.5,
        });
        assert_eq!(line(Some("ir-1"), 1_764_143_921_000, &metrics), expected);
    }

    /// Else the alarm over all would end while another incident is open.
    #[test]
    fn a_zero_of_one_incident_is_not_said_of_all() {
        let found = line(Some("ir-1"), 1, &[Metric::count("NotIsolated", 0), Metric::count("Drift", 1)]);
        let directives = &found["_aws"]["CloudWatchMetrics"];
        assert_eq!(
            (&directives[0]["Dimensions"], &directives[0]["Metrics"][0]["Name"]),
            (&json!([["Incident"]]), &json!("NotIsolated"))
        );
        assert_eq!(
            (&directives[1]["Dimensions"], &directives[1]["Metrics"][0]["Name"]),
            (&json!([["Incident"], []]), &json!("Drift"))
        );
        let found = line(None, 1, &[Metric::count("NotIsolated", 0)]);
        assert_eq!(found["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([[]]));
        assert_eq!(found.get("Incident"), None);
    }
}
