"""CloudWatch and SNS as far as an alarm needs them: figures out of a function's log, alarms on them, their messages.

ministack takes no figures from a log, evaluates an alarm over all dimensions of its metric, and publishes past the
topic's policy. Here a line of the embedded metric format becomes metrics, an alarm looks at exactly its dimensions and
treats what is missing as it says, and its message has CloudWatch's shape. Alarms are evaluated when a test asks for it
(`PUT /_local/alarms`), and each minute with the clock on (`PUT /_local/clock`).
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from typing import Any

from control import Json, knobs, log, route

ACCOUNT = "123456789012"
# CloudWatch User Guide, "Specification: Embedded metric format"
MOST_DIMENSIONS = 30
MOST_METRICS = 100
_REGION_NAME = "US East (N. Virginia)"
_AWS_KEY = "alias/aws/sns"
_WORDS = {
    "GreaterThanThreshold": "greater than",
    "GreaterThanOrEqualToThreshold": "greater than or equal to",
    "LessThanThreshold": "less than",
    "LessThanOrEqualToThreshold": "less than or equal to",
}
logger = logging.getLogger("local_aws.alarms")


def install() -> None:
    """Put this over ministack's CloudWatch and SNS. Call once, at start."""
    from ministack.services import cloudwatch, lambda_svc, sns

    cloudwatch._evaluate_alarm = lambda _alarm: None
    cloudwatch._evaluate_all_alarms = lambda: None
    lambda_svc._emit_lambda_logs = _extracting(lambda_svc._emit_lambda_logs)
    sns._fanout = _recording(sns._fanout)


# --- Figures out of a log ---------------------------------------------------------------------------------------------


def _extracting(original: Any) -> Any:
    def emit(function: Json, request_id: str, text: str, *arguments: Any, **keywords: Any) -> None:
        original(function, request_id, text, *arguments, **keywords)
        for line in (text or "").splitlines():
            extract(line)

    return emit


def extract(line: str) -> int:
    """The metrics of one log line, if it is a document of the embedded metric format; how many there are."""
    if not line.startswith("{") or '"_aws"' not in line:
        return 0
    try:
        document = json.loads(line)
        taken = _metrics(document)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        # CloudWatch says nothing either, but for its metrics EMFParsingErrors and EMFValidationErrors.
        logger.warning("no embedded metrics in %s: %r", line, error)
        return 0
    from ministack.services import cloudwatch

    for namespace, name, dimensions, unit, values, at in taken:
        bucket = cloudwatch._metric_bucket((namespace, name, cloudwatch._dims_key(dimensions)))
        bucket.extend({"Timestamp": at, "Value": value, "Unit": unit, "Dimensions": dimensions} for value in values)
    return len(taken)


def _metrics(document: Json) -> list[tuple[str, str, Json, str, list[float], float]]:
    """Raises what makes CloudWatch take nothing from the line."""
    found = []
    at = float(document["_aws"]["Timestamp"]) / 1000
    if not -14 * 86400 < at - time.time() < 2 * 3600:
        raise ValueError("the time stamp is too old, or in the future")
    for directive in document["_aws"]["CloudWatchMetrics"]:
        if len(directive["Metrics"]) > MOST_METRICS:
            raise ValueError("too many metrics")
        for names in directive["Dimensions"]:
            if len(names) > MOST_DIMENSIONS or not all(isinstance(document[name], str) for name in names):
                raise ValueError(f"dimensions {names}")
            dimensions = {name: document[name] for name in names}
            for metric in directive["Metrics"]:
                value = document[metric["Name"]]
                values = value if isinstance(value, list) else [value]
                if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in values):
                    raise ValueError(f"{metric['Name']} is no number")
                unit = metric.get("Unit", "None")
                found.append((directive["Namespace"], metric["Name"], dimensions, unit, list(map(float, values)), at))
    return found


# --- Alarms -----------------------------------------------------------------------------------------------------------


def evaluate(now: float) -> list[str]:
    """Every alarm, at this time; the names of those that changed."""
    from ministack.services import cloudwatch

    return [name for name, alarm in list(cloudwatch._alarms.items()) if _evaluate(alarm, now)]


def _evaluate(alarm: Json, now: float) -> bool:
    """PutMetricAlarm, EvaluationPeriods, DatapointsToAlarm and TreatMissingData; whether the state changed.

    CloudWatch looks at a few more periods where data are missing, which lets late data count. Not here.
    """
    count = int(alarm["EvaluationPeriods"])
    needed = int(alarm.get("DatapointsToAlarm") or count)
    points = [_statistic(alarm, now - (n + 1) * alarm["Period"], now - n * alarm["Period"]) for n in range(count)]
    there = [(value, at) for value, at in points if value is not None]
    treatment = alarm.get("TreatMissingData") or "missing"
    missing = count - len(there)
    breaching = sum(_breaches(alarm, value) for value, _ in there) + (missing if treatment == "breaching" else 0)
    old = alarm["StateValue"]
    if breaching >= needed:
        new = "ALARM"
    elif there or treatment in ("breaching", "notBreaching"):
        new = "OK"
    elif treatment == "ignore":
        new = old
    else:
        new = "INSUFFICIENT_DATA"
    if new == old:
        return False
    _change(alarm, new, _reason(alarm, new, old, there, missing, needed), now)
    return True


def _statistic(alarm: Json, start: float, end: float) -> tuple[float | None, float]:
    """Over exactly the alarm's dimensions: a metric with one more or one fewer is another metric."""
    from ministack.services import cloudwatch

    dimensions = {dimension["Name"]: dimension["Value"] for dimension in alarm.get("Dimensions") or []}
    key = (alarm["Namespace"], alarm["MetricName"], cloudwatch._dims_key(dimensions))
    points = [
        point
        for point in cloudwatch._metrics.get(key) or []
        if start < point["Timestamp"] <= end and alarm.get("Unit") in (None, point["Unit"])
    ]
    if not points:
        return None, start
    stats = cloudwatch._calc_stats(points)
    return float(cloudwatch._stat_value(stats, alarm["Statistic"], points)), start


def _breaches(alarm: Json, value: float) -> bool:
    threshold = float(alarm["Threshold"])
    return {
        "GreaterThanThreshold": value > threshold,
        "GreaterThanOrEqualToThreshold": value >= threshold,
        "LessThanThreshold": value < threshold,
        "LessThanOrEqualToThreshold": value <= threshold,
    }[alarm["ComparisonOperator"]]


def _reason(alarm: Json, new: str, old: str, there: list[Any], missing: int, needed: int) -> str:
    """CloudWatch's words, as real messages show them (cds-snc/sre-bot and many others)."""
    count, threshold = int(alarm["EvaluationPeriods"]), float(alarm["Threshold"])
    if not there:
        periods = f"{count} period{'s' if count > 1 else ''}"
        if new == "INSUFFICIENT_DATA":
            return f"Insufficient Data: {count} datapoint{'s were' if count > 1 else ' was'} unknown."
        treated = "Breaching" if new == "ALARM" else "NonBreaching"
        return (
            f"Threshold Crossed: no datapoints were received for {periods} and {missing} missing "
            f"datapoint{'s were' if missing > 1 else ' was'} treated as [{treated}]."
        )
    shown = ", ".join(f"{value} ({time.strftime('%d/%m/%y %H:%M:00', time.gmtime(at))})" for value, at in there)
    word = _WORDS[alarm["ComparisonOperator"]]
    return (
        f"Threshold Crossed: {len(there)} out of the last {count} datapoints [{shown}] was "
        f"{'' if new == 'ALARM' else 'not '}{word} the threshold ({threshold}) (minimum {needed} "
        f"datapoint{'s' if needed > 1 else ''} for {old} -> {new} transition)."
    )


def _change(alarm: Json, new: str, reason: str, now: float) -> None:
    from ministack.services import cloudwatch

    old = alarm["StateValue"]
    alarm.update(StateValue=new, StateReason=reason, StateUpdatedTimestamp=int(now))
    cloudwatch._record_history(alarm["AlarmName"], old, new, reason)
    actions = {"ALARM": "AlarmActions", "OK": "OKActions", "INSUFFICIENT_DATA": "InsufficientDataActions"}[new]
    if not alarm.get("ActionsEnabled", True):
        return
    message = json.dumps(_message(alarm, old, now))
    for topic in alarm.get(actions) or []:
        _publish(alarm, topic, f'{new}: "{alarm["AlarmName"]}" in {_REGION_NAME}', message)


def _stamp(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at * 1000) % 1000:03}+0000"


def _message(alarm: Json, old: str, now: float) -> Json:
    """The message of a real alarm (cds-snc/sre-bot, and others that keep one in their tests)."""
    return {
        "AlarmName": alarm["AlarmName"],
        "AlarmDescription": alarm.get("AlarmDescription") or None,
        "AWSAccountId": ACCOUNT,
        "AlarmConfigurationUpdatedTimestamp": _stamp(alarm["AlarmConfigurationUpdatedTimestamp"]),
        "NewStateValue": alarm["StateValue"],
        "NewStateReason": alarm["StateReason"],
        "StateChangeTime": _stamp(now),
        "Region": _REGION_NAME,
        "AlarmArn": alarm["AlarmArn"],
        "OldStateValue": old,
        "OKActions": alarm.get("OKActions") or [],
        "AlarmActions": alarm.get("AlarmActions") or [],
        "InsufficientDataActions": alarm.get("InsufficientDataActions") or [],
        "Trigger": {
            "MetricName": alarm["MetricName"],
            "Namespace": alarm["Namespace"],
            "StatisticType": "Statistic",
            "Statistic": alarm["Statistic"].upper(),
            "Unit": alarm.get("Unit"),
            "Dimensions": [{"value": one["Value"], "name": one["Name"]} for one in alarm.get("Dimensions") or []],
            "Period": alarm["Period"],
            "EvaluationPeriods": alarm["EvaluationPeriods"],
            "ComparisonOperator": alarm["ComparisonOperator"],
            "Threshold": alarm["Threshold"],
            "TreatMissingData": alarm.get("TreatMissingData") or "missing",
            "EvaluateLowSampleCountPercentile": "",
        },
    }


def _publish(alarm: Json, topic: str, subject: str, message: str) -> None:
    """What SNS refuses is in the alarm's history only."""
    from ministack.services import cloudwatch, sns

    record = sns._topic_by_arn_any_scope(topic)
    refused = None
    if record is None:
        refused = "Topic does not exist"
    elif not sns.topic_policy_allows(topic, "cloudwatch.amazonaws.com", alarm["AlarmArn"], ACCOUNT):
        # re:Post, "Why didn't I receive an SNS notification for my CloudWatch alarm trigger?"
        refused = f"Resource: {alarm['AlarmArn']} is not authorized to perform: SNS:Publish on resource: {topic}"
    elif record["attributes"].get("KmsMasterKeyId", "").endswith(_AWS_KEY):
        # re:Post, "How do I configure a CloudWatch alarm with an encrypted SNS topic?"
        refused = "CloudWatch Alarms does not have authorization to access the SNS topic encryption key."
    if refused is None:
        sns._fanout(topic, str(uuid.uuid4()), message, subject)
        return
    summary = f"Failed to execute action {topic}. Received error: {refused}"
    logger.warning(summary)
    entry = {"AlarmName": alarm["AlarmName"], "AlarmType": "MetricAlarm", "HistoryItemType": "Action"}
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    cloudwatch._history_entries().append({**entry, "Timestamp": stamp, "HistorySummary": summary, "HistoryData": "{}"})


def _recording(original: Any) -> Any:
    def fan_out(topic: str, message_id: str, message: str, subject: str, *arguments: Any, **keywords: Any) -> None:
        log.messages.append({"n": len(log.messages) + 1, "topic": topic, "subject": subject, "message": message})
        original(topic, message_id, message, subject, *arguments, **keywords)

    return fan_out


# --- Controls ---------------------------------------------------------------------------------------------------------


@route("PUT", "alarms")
def _alarms(body: Json, _query: dict[str, list[str]]) -> Json:
    return {"changed": evaluate(time.time() + float(body.get("after", 0)))}


@route("GET", "messages")
def _messages(_body: Json, query: dict[str, list[str]]) -> list[Json]:
    topic = query.get("topic", [None])[0]
    since = int(query.get("since", ["0"])[0])
    return [one for one in log.messages[since:] if topic in (None, one["topic"])]


@route("PUT", "embedded-metrics")
def _embedded_metrics(body: Json, _query: dict[str, list[str]]) -> Json:
    return {"metrics": extract(str(body["line"]))}


def tick() -> None:
    """Once a minute, with the clock on."""
    if knobs.clock:
        evaluate(time.time())
