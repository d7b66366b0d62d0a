//! What only an operator's program asks of the world: other tables, stacks with their resources, who is in a group.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ec2_isolation::cloudformation::stack::StackStatus;
use ec2_isolation::model::{Groups, InstanceId, Interface, Owner, Record, ScheduledEvent, State};
use ec2_isolation::operator::ports::approval::{Question, Questions};
use ec2_isolation::operator::ports::{Archive, Survey, Takeover};
use ec2_isolation::operator::stack::{Export, NewStack, Prepared, StackLife, StackResource, StackTimes, StackView};
use ec2_isolation::ports::{Call, Fault, Items, Written};

use super::ports::refusal;
use super::{Data, TABLE, World};

/// The stack that exports what is there.
pub const RESPONDER: &str = "arn:aws:cloudformation:us-east-1:123456789012:stack/ec2-isolation/1";

/// A stack with its function, its custom resource and these further resources (logical id, physical id).
pub fn view(id: &str, status: &str, others: &[(&str, &str)]) -> StackView {
    let resource = |logical_id: &str, physical_id: &str, kind: &str| StackResource {
        logical_id: logical_id.to_owned(),
        physical_id: physical_id.to_owned(),
        kind: kind.to_owned(),
        status: "CREATE_COMPLETE".to_owned(),
        reason: String::new(),
    };
    let own = [("Isolation", "Custom::Ec2Isolation"), ("IsolationFunction", "AWS::Lambda::Function")];
    let own = own.map(|(name, kind)| resource(name, name, kind));
    StackView {
        id: id.to_owned(),
        name: id.split('/').nth(1).unwrap().to_owned(),
        status: StackStatus { status: status.to_owned(), reason: String::new(), parent: None, updated: None },
        is_protected: false,
        function_outlives: false,
        changed_at: None,
        parameters: BTreeMap::new(),
        outputs: BTreeMap::new(),
        resources: own
            .into_iter()
            .chain(others.iter().map(|(name, id)| resource(name, id, "AWS::Some::Thing")))
            .collect(),
    }
}

/// The stack of the forensic host of this incident, as `host` makes it.
pub fn host_view(incident: &str, host: &str) -> StackView {
    let id = format!("arn:aws:cloudformation:us-east-1:123456789012:stack/{incident}-host/1");
    let mut stack = view(&id, "CREATE_COMPLETE", &[("ForensicInstance", host)]);
    stack.parameters.insert("IsolatedSecurityGroupId".to_owned(), super::ISOLATION.to_owned());
    stack
}

impl Data {
    /// Brings the items of a table to the fore, or puts them back.
    pub(super) fn turn_to(&mut self, table: &str) {
        if table != TABLE {
            let table = self.tables.entry(table.to_owned()).or_default();
            std::mem::swap(&mut self.records, &mut table.records);
            std::mem::swap(&mut self.intents, &mut table.intents);
            std::mem::swap(&mut self.unreadable, &mut table.unreadable);
            std::mem::swap(&mut self.open, &mut table.open);
        }
    }
}

impl Survey for World {
    async fn scheduled_events(&self, ids: &BTreeSet<InstanceId>) -> Call<BTreeMap<InstanceId, Vec<ScheduledEvent>>> {
        self.call("ec2:DescribeInstanceStatus", ids.len().to_string(), |data| {
            let found = data.events.iter().filter(|(id, _)| ids.contains(*id));
            Ok(found.map(|(id, events)| (id.clone(), events.clone())).collect())
        })
        .await
    }

    async fn interfaces_in(&self, groups: &Groups) -> Call<Vec<Interface>> {
        self.call("ec2:DescribeNetworkInterfaces", "by group".to_owned(), |data| {
            let all: Vec<Interface> =
                data.interfaces().filter(|interface| !data.hides(interface.id.as_str())).cloned().collect();
            let shown = all.iter().map(|interface| data.shown(interface));
            Ok(shown.filter(|interface| !interface.groups.is_disjoint(groups)).collect())
        })
        .await
    }

    async fn interfaces_at(&self, address: IpAddr) -> Call<Vec<Interface>> {
        self.call("ec2:DescribeNetworkInterfaces", address.to_string(), |data| {
            let ids = data.addresses.get(&address).cloned().unwrap_or_default();
            Ok(data.interfaces().filter(|interface| ids.contains(&interface.id)).cloned().collect())
        })
        .await
    }
}

impl Questions for World {
    async fn question(&self, id: &str) -> Call<Option<Question>> {
        self.call("dynamodb:GetItem", format!("trigger:{id}"), |data| Ok(data.questions.get(id).cloned())).await
    }
}

impl Archive for World {
    async fn tables(&self, prefix: &str) -> Call<Vec<String>> {
        self.call("dynamodb:ListTables", prefix.to_owned(), |data| {
            let all = data.tables.keys().map(String::as_str).chain([TABLE]);
            Ok(all.filter(|name| name.starts_with(prefix)).map(str::to_owned).collect())
        })
        .await
    }

    async fn scan(&self) -> Call<Items> {
        self.call("dynamodb:Scan", String::new(), |data| Ok(data.items(|_| true, |_| true))).await
    }

    fn named(&self, table: &str) -> Self {
        Self { table: table.to_owned(), ..self.clone() }
    }

    async fn take_over(&self, from: &Self, seen: &Record, takeover: &Takeover<'_>) -> Call<Written> {
        let found = from
            .call("dynamodb:BatchGetItem", seen.instance.to_string(), |data| {
                Ok(data.records.get(&seen.instance).cloned())
            })
            .await?;
        let Some(mut record) = found.filter(|record| record == seen) else { return Ok(Written::Lost) };
        record.owner = takeover.owner.clone();
        record.state = State::Isolating;
        record.isolation_group = takeover.isolation_group.clone();
        record.isolation_groups.insert(takeover.isolation_group.clone());
        record.history.push(takeover.history(seen, &from.table));
        self.call("dynamodb:TransactWriteItems", seen.instance.to_string(), |data| {
            let is_free = |found: &Record| match from.table == self.table {
                true => found == seen,
                false => found.state == State::Restored,
            };
            if data.records.get(&seen.instance).is_some_and(|found| !is_free(found)) {
                return Ok(Written::Lost);
            }
            data.records.insert(seen.instance.clone(), record);
            if let Some((intent, _)) = data.intents.get_mut(&takeover.owner.digest()) {
                intent.held.insert(seen.instance.clone());
            }
            data.open.insert(takeover.owner.digest());
            Ok(Written::Done)
        })
        .await
    }

    async fn note(&self, owner: &Owner, instance: &InstanceId, line: &str) -> Call<Written> {
        self.call("dynamodb:UpdateItem", instance.to_string(), |data| {
            let Some(record) = data.records.get_mut(instance).filter(|record| record.owner == *owner) else {
                return Ok(Written::Lost);
            };
            record.history.push(line.to_owned());
            Ok(Written::Done)
        })
        .await
    }

    async fn let_go(&self, seen: &Record) -> Call<Written> {
        self.call("dynamodb:DeleteItem", seen.instance.to_string(), |data| {
            let is_seen = |record: &&Record| record.owner == seen.owner && record.state == seen.state;
            if data.records.get(&seen.instance).filter(is_seen).is_none() {
                return Ok(Written::Lost);
            }
            data.records.remove(&seen.instance);
            Ok(Written::Done)
        })
        .await
    }
}

impl StackLife for World {
    async fn view(&self, stack: &str) -> Call<Option<StackView>> {
        self.call("cloudformation:DescribeStacks", stack.to_owned(), |data| {
            Ok(data.views.iter().find(|view| view.id == stack || view.name == stack).cloned())
        })
        .await
    }

    async fn with_parameters(&self, names: &[&str]) -> Call<Vec<String>> {
        self.call("cloudformation:DescribeStacks", names.join(","), |data| {
            let parents: Vec<&String> = data.views.iter().filter_map(|view| view.status.parent.as_ref()).collect();
            let is_meant = |view: &&StackView| {
                let has = names.iter().all(|name| view.parameters.contains_key(*name));
                has && view.status.status != "REVIEW_IN_PROGRESS" && !parents.contains(&&view.id)
            };
            Ok(data.views.iter().filter(is_meant).map(|view| view.id.clone()).collect())
        })
        .await
    }

    async fn times(&self, stack_id: &str) -> Call<Option<StackTimes>> {
        self.call("cloudformation:DescribeStacks", stack_id.to_owned(), |data| Ok(data.times.get(stack_id).copied()))
            .await
    }

    async fn left_behind(&self, stack_id: &str) -> Call<Vec<StackResource>> {
        self.call("cloudformation:DescribeStackEvents", stack_id.to_owned(), |data| {
            Ok(data.left_behind.get(stack_id).cloned().unwrap_or_default())
        })
        .await
    }

    async fn export(&self, name: &str) -> Call<Option<Export>> {
        self.call("cloudformation:ListExports", name.to_owned(), |data| {
            let export = |value: &String| Export { value: value.clone(), stack_id: RESPONDER.to_owned() };
            Ok(data.exports.get(name).map(export))
        })
        .await
    }

    async fn create(&self, stack: &NewStack<'_>) -> Call<Option<String>> {
        self.call("cloudformation:CreateStack", stack.name.to_owned(), |data| {
            if data.views.iter().any(|view| view.name == stack.name) {
                return Ok(None);
            }
            data.service_roles.extend(stack.role.map(|role| (stack.name.to_owned(), role.to_owned())));
            let id = format!("arn:aws:cloudformation:us-east-1:123456789012:stack/{}/1", stack.name);
            let mut made = view(&id, "CREATE_COMPLETE", &[]);
            made.function_outlives = true;
            made.parameters = stack.parameters.clone();
            if made.parameters.contains_key("VpcId") {
                data.deploy(&mut made);
            } else {
                // It denies credentials, and has nothing else.
                made.resources.clear();
                made.is_protected = stack.stays;
                data.provision_policy(&mut made, "CREATE");
            }
            data.views.push(made);
            Ok(Some(id))
        })
        .await
    }

    async fn prepare(&self, stack: &str, name: &str, parameters: &BTreeMap<String, String>) -> Call<Prepared> {
        self.call("cloudformation:CreateChangeSet", stack.to_owned(), |data| {
            let view = data.views.iter().find(|view| view.id == stack).expect("it was seen");
            if view.is_busy() {
                return Ok(Prepared::Busy);
            }
            let after = view.parameters.clone().into_iter().chain(parameters.clone()).collect();
            data.prepared.insert(name.to_owned(), (view.clone(), after));
            Ok(Prepared::Ready(name.to_owned()))
        })
        .await
    }

    async fn carry_out(&self, change_set: &str) -> Call<bool> {
        self.call("cloudformation:ExecuteChangeSet", change_set.to_owned(), |data| {
            let (seen, after) = data.prepared.remove(change_set).expect("it was prepared");
            let view = data.views.iter_mut().find(|view| view.id == seen.id).expect("it is there");
            // CloudFormation marks it OBSOLETE.
            if *view != seen {
                return Ok(false);
            }
            view.parameters = after;
            let mut changed = view.clone();
            // Of a stack that failed, what was not made is made now.
            if changed
                .resources
                .iter()
                .any(|resource| resource.status == "CREATE_FAILED" && resource.physical_id.is_empty())
            {
                changed.resources = super::operator::view(&changed.id, "CREATE_COMPLETE", &[]).resources;
                data.deploy(&mut changed);
            } else if changed.isolation().is_some() {
                data.call_function(&mut changed, "UPDATE");
            }
            data.provision_policy(&mut changed, "UPDATE");
            *data.views.iter_mut().find(|view| view.id == seen.id).expect("it is there") = changed;
            Ok(true)
        })
        .await
    }

    async fn discard(&self, change_set: &str) -> Call<()> {
        self.call("cloudformation:DeleteChangeSet", change_set.to_owned(), |data| {
            data.prepared.remove(change_set);
            Ok(())
        })
        .await
    }

    async fn protect(&self, stack: &str, on: bool) -> Call<()> {
        self.call("cloudformation:UpdateTerminationProtection", stack.to_owned(), |data| {
            data.views.iter_mut().filter(|view| view.id == stack).for_each(|view| view.is_protected = on);
            Ok(())
        })
        .await
    }

    async fn delete(&self, stack: &str, retain: &[String]) -> Call<()> {
        let action = "cloudformation:DeleteStack";
        self.call(action, format!("{stack} {retain:?}"), |data| {
            let Some(at) = data.views.iter().position(|view| view.id == stack) else { return Ok(()) };
            let denies = data.views[at].parameters.contains_key("RevokeRoles");
            if (data.drill.has_function || denies) && data.views[at].is_protected {
                return refusal(action, Fault::Refused, "ValidationError");
            }
            let mut view = data.views.remove(at);
            if !data.undeploy(&mut view) {
                data.views.insert(at, view);
            }
            Ok(())
        })
        .await
    }
}

impl World {
    /// The same world by the ports of a function whose records table is another one.
    pub fn named_table(&self, table: &str) -> Self {
        self.named(table)
    }
}
