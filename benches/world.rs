//! The AWS that the measured programs see: EC2, DynamoDB, Auto Scaling, CloudFormation and STS, as far as they ask.
//!
//! It knows what is asked of it here and nothing more, and no condition of a write is checked: nobody writes beside the
//! measured program. Whether the product is right is for the tests; that it did its work is asserted row by row.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use serde_json::{Map, Value, json};

pub const VPC: &str = "vpc-0123456789abcdef0";
pub const ISOLATION: &str = "sg-0a11ce0150a7ed000";
pub const TRANSIT: &str = "sg-07a45170a7ed00000";
pub const FORENSIC: &str = "sg-0f0e1d2c3b4a59687";
/// What dredge makes.
pub const DREDGE: &str = "sg-0d4ed6e0000000000";
/// The groups that every interface has at the start.
pub const ORIGINALS: [&str; 2] = ["sg-0a", "sg-0b"];
pub const STACK: &str =
    "arn:aws:cloudformation:us-east-1:123456789012:stack/incident-2026-11-25/6f9a1d20-c9c4-11f1-8e0b-0affc2d7a3f1";

/// EC2's token buckets (EC2 Developer Guide, "Request throttling"): tokens at the start, and how many come back in a second.
const BUCKETS: [(&str, f64, f64); 10] = [
    ("ModifyNetworkInterfaceAttribute", 100.0, 5.0),
    ("CreateSnapshots", 100.0, 5.0),
    ("CreateTags", 100.0, 10.0),
    ("DeleteTags", 100.0, 10.0),
    ("ModifyInstanceAttribute", 50.0, 5.0),
    ("ModifyInstanceMetadataOptions", 100.0, 5.0),
    ("DescribeInstances", 100.0, 20.0),
    ("DescribeInstanceAttribute", 100.0, 20.0),
    ("DescribeNetworkInterfaces", 100.0, 20.0),
    ("DescribeSnapshots", 100.0, 20.0),
];

pub type Groups = BTreeSet<String>;

/// A change of an interface's groups.
#[derive(Debug)]
pub struct Swap {
    pub at: Instant,
    pub interface: String,
    pub groups: Groups,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled_at: Instant,
}

#[derive(Debug, Default)]
pub struct World {
    pub instances: BTreeMap<String, Vec<String>>,
    pub cards: BTreeMap<String, Groups>,
    pub swaps: Vec<Swap>,
    pub calls: BTreeMap<String, u32>,
    /// Calls that came before the first change of groups.
    pub calls_before: u32,
    /// When the first call for a snapshot of an instance was answered, and the first one that protects it.
    pub snapshotted: BTreeMap<String, Instant>,
    pub protected: BTreeMap<String, Instant>,
    /// How often EC2 refused a call, by what it asked: a retry asks the same.
    pub refused: HashMap<String, u32>,
    /// None: EC2 takes whatever comes.
    buckets: Option<HashMap<&'static str, Bucket>>,
    items: BTreeMap<String, Map<String, Value>>,
    tags: BTreeMap<String, BTreeMap<String, String>>,
    /// Snapshot, volume.
    pub snapshots: Vec<(String, String)>,
    attributes: BTreeMap<(String, String), String>,
}

/// Parameters of a query, in their order.
type Query = Vec<(String, String)>;

impl World {
    pub fn new(instances: usize, interfaces: usize, throttles: bool) -> Self {
        let mut world = Self { buckets: throttles.then(HashMap::new), ..Self::default() };
        for n in 0..instances {
            let cards: Vec<String> = (0..interfaces).map(|k| format!("eni-{:017x}", 0x10_0000 + n * 16 + k)).collect();
            for card in &cards {
                world.cards.insert(card.clone(), Groups::from(ORIGINALS.map(str::to_owned)));
            }
            world.instances.insert(format!("i-{:017x}", 0x1000 + n), cards);
        }
        world
    }

    /// Forgets what was measured, and lets the buckets fill: a restore comes long after.
    pub fn rest(&mut self) {
        self.swaps.clear();
        self.calls.clear();
        self.calls_before = 0;
        self.snapshotted.clear();
        self.protected.clear();
        self.refused.clear();
        if let Some(buckets) = &mut self.buckets {
            buckets.clear();
        }
    }

    /// Counts a call, and says whether EC2 takes it.
    pub fn admit(&mut self, action: &str, body: &str) -> bool {
        if action == "ModifyNetworkInterfaceAttribute" && !self.calls.contains_key(action) {
            self.calls_before = self.calls.values().sum();
        }
        *self.calls.entry(action.to_owned()).or_insert(0) += 1;
        let Some(buckets) = &mut self.buckets else { return true };
        let Some((name, size, rate)) = BUCKETS.iter().find(|(name, ..)| *name == action) else { return true };
        let now = Instant::now();
        let bucket = buckets.entry(name).or_insert(Bucket { tokens: *size, filled_at: now });
        bucket.tokens = size.min(bucket.tokens + rate * (now - bucket.filled_at).as_secs_f64());
        bucket.filled_at = now;
        let has_token = bucket.tokens >= 1.0;
        if has_token {
            bucket.tokens -= 1.0;
        } else {
            *self.refused.entry(body.to_owned()).or_insert(0) += 1;
        }
        has_token
    }

    fn swap(&mut self, interface: &str, groups: Groups) {
        let known = self.cards.insert(interface.to_owned(), groups.clone());
        assert!(known.is_some(), "nobody has {interface}");
        self.swaps.push(Swap { at: Instant::now(), interface: interface.to_owned(), groups });
    }

    /// The answer to a call of EC2, Auto Scaling, CloudFormation or STS. None: it is nothing that anybody is expected to call.
    pub fn query(&mut self, action: &str, query: &Query) -> Option<String> {
        let body = match action {
            "DescribeInstances" => self.describe_instances(query),
            "DescribeNetworkInterfaces" => self.describe_interfaces(query),
            "DescribeSecurityGroups" => describe_groups(query),
            // A new one has the rule that lets everything out; nobody looks.
            "CreateSecurityGroup" => format!("<return>true</return><groupId>{DREDGE}</groupId>"),
            "RevokeSecurityGroupEgress" => "<return>true</return>".to_owned(),
            "DescribeSnapshots" => self.describe_snapshots(query),
            "DescribeTags" => self.describe_tags(query),
            "DescribeInstanceStatus" => "<instanceStatusSet/>".to_owned(),
            "DescribeIamInstanceProfileAssociations" => "<iamInstanceProfileAssociationSet/>".to_owned(),
            "DescribeInstanceAttribute" => self.describe_attribute(query),
            "ModifyNetworkInterfaceAttribute" => {
                let groups = listed(query, "SecurityGroupId").collect();
                self.swap(value(query, "NetworkInterfaceId"), groups);
                "<return>true</return>".to_owned()
            }
            "ModifyInstanceAttribute" => self.modify_instance(query),
            "ModifyInstanceMetadataOptions" => {
                let of = (value(query, "InstanceId").to_owned(), "HttpEndpoint".to_owned());
                self.attributes.insert(of, value(query, "HttpEndpoint").to_owned());
                "<instanceMetadataOptions><state>pending</state></instanceMetadataOptions>".to_owned()
            }
            "CreateTags" => {
                let keys = query.iter().filter(|(name, _)| name.starts_with("Tag.") && name.ends_with(".Key"));
                for (name, key) in keys {
                    let text = value(query, &name.replace(".Key", ".Value")).to_owned();
                    for resource in listed(query, "ResourceId") {
                        self.tags.entry(resource).or_default().insert(key.clone(), text.clone());
                    }
                }
                "<return>true</return>".to_owned()
            }
            "DeleteTags" => {
                for resource in listed(query, "ResourceId") {
                    self.tags.remove(&resource);
                }
                "<return>true</return>".to_owned()
            }
            "CreateSnapshots" => self.create_snapshots(query),
            "DescribeStacks" => {
                "<DescribeStacksResult><Stacks><member><StackName>ir</StackName>\
                 <CreationTime>2026-11-25T00:00:00Z</CreationTime><StackStatus>DELETE_IN_PROGRESS</StackStatus>\
                 </member></Stacks></DescribeStacksResult>"
                    .to_owned()
            }
            "DescribeAutoScalingInstances" => "<DescribeAutoScalingInstancesResult><AutoScalingInstances/>\
                                               </DescribeAutoScalingInstancesResult>"
                .to_owned(),
            "GetCallerIdentity" => "<GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/responder</Arn>\
                                    <UserId>AIDAEXAMPLE</UserId><Account>123456789012</Account></GetCallerIdentityResult>"
                .to_owned(),
            _ => return None,
        };
        Some(format!("<{action}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">{body}</{action}Response>"))
    }

    /// As long as EC2's own: what is left out here would be read and dropped as well.
    fn describe_instances(&self, query: &Query) -> String {
        let wanted: BTreeSet<String> = filtered(query, "instance-id").chain(listed(query, "InstanceId")).collect();
        let mut body = "<reservationSet>".to_owned();
        for (n, (id, cards)) in self.instances.iter().enumerate().filter(|(_, (id, _))| wanted.contains(*id)) {
            let groups = self.group_set(&cards[0]);
            let cards: String = cards.iter().enumerate().map(|(index, card)| self.card_of(card, index)).collect();
            let tags = self.tag_set(id);
            let endpoint =
                self.attributes.get(&(id.clone(), "HttpEndpoint".to_owned())).map_or("enabled", String::as_str);
            let volumes: String = volumes(id).iter().map(|(device, volume)| format!(
                "<item><deviceName>{device}</deviceName><ebs><volumeId>{volume}</volumeId><status>attached</status>\
                 <attachTime>2026-11-01T08:00:00.000Z</attachTime><deleteOnTermination>{}</deleteOnTermination></ebs></item>",
                self.attributes.get(&(id.clone(), (*device).to_owned())).map_or("true", String::as_str)
            )).collect();
            body.push_str(&format!(
                "<item><reservationId>r-{n:017x}</reservationId><ownerId>123456789012</ownerId><groupSet/><instancesSet><item>\
                 <instanceId>{id}</instanceId><imageId>ami-0abcdef1234567890</imageId><instanceState><code>16</code>\
                 <name>running</name></instanceState><privateDnsName>ip-10-0-0-{n}.ec2.internal</privateDnsName>\
                 <dnsName>ec2-203-0-113-{n}.compute-1.amazonaws.com</dnsName><reason/><keyName>operations</keyName>\
                 <amiLaunchIndex>0</amiLaunchIndex><productCodes/><instanceType>m7i.large</instanceType>\
                 <launchTime>2026-11-01T08:00:00.000Z</launchTime><placement><availabilityZone>us-east-1a</availabilityZone>\
                 <groupName/><tenancy>default</tenancy></placement><monitoring><state>disabled</state></monitoring>\
                 <subnetId>subnet-0123456789abcdef0</subnetId><vpcId>{VPC}</vpcId><privateIpAddress>10.0.0.{n}</privateIpAddress>\
                 <ipAddress>203.0.113.{n}</ipAddress><sourceDestCheck>true</sourceDestCheck><groupSet>{groups}</groupSet><architecture>x86_64</architecture>\
                 <rootDeviceType>ebs</rootDeviceType><rootDeviceName>/dev/xvda</rootDeviceName><blockDeviceMapping>{volumes}\
                 </blockDeviceMapping><virtualizationType>hvm</virtualizationType><clientToken>11111111-2222-3333-4444-{n:012}\
                 </clientToken><tagSet><item><key>Name</key><value>web-{n}</value></item><item><key>team</key>\
                 <value>payments</value></item>{tags}</tagSet><hypervisor>xen</hypervisor><networkInterfaceSet>{cards}\
                 </networkInterfaceSet><ebsOptimized>true</ebsOptimized><enaSupport>true</enaSupport><cpuOptions>\
                 <coreCount>1</coreCount><threadsPerCore>2</threadsPerCore></cpuOptions><capacityReservationSpecification>\
                 <capacityReservationPreference>open</capacityReservationPreference></capacityReservationSpecification>\
                 <hibernationOptions><configured>false</configured></hibernationOptions><metadataOptions><state>applied</state>\
                 <httpTokens>required</httpTokens><httpPutResponseHopLimit>2</httpPutResponseHopLimit><httpEndpoint>{endpoint}</httpEndpoint>\
                 </metadataOptions><enclaveOptions><enabled>false</enabled></enclaveOptions>\
                 <bootMode>uefi-preferred</bootMode></item></instancesSet></item>"
            ));
        }
        body + "</reservationSet>"
    }

    fn card_of(&self, card: &str, index: usize) -> String {
        format!(
            "<item><networkInterfaceId>{card}</networkInterfaceId><subnetId>subnet-0123456789abcdef0</subnetId>\
             <vpcId>{VPC}</vpcId><description/><ownerId>123456789012</ownerId><status>in-use</status>\
             <macAddress>0a:ff:c2:d7:a3:f1</macAddress><privateIpAddress>10.0.0.1</privateIpAddress>\
             <sourceDestCheck>true</sourceDestCheck><groupSet>{}</groupSet><attachment><attachmentId>eni-attach-0</attachmentId>\
             <deviceIndex>{index}</deviceIndex><status>attached</status><attachTime>2026-11-01T08:00:00.000Z</attachTime>\
             <deleteOnTermination>true</deleteOnTermination><networkCardIndex>0</networkCardIndex></attachment>\
             <privateIpAddressesSet><item><privateIpAddress>10.0.0.1</privateIpAddress><primary>true</primary></item>\
             </privateIpAddressesSet><ipv6AddressesSet/><interfaceType>interface</interfaceType></item>",
            self.group_set(card)
        )
    }

    fn group_set(&self, card: &str) -> String {
        let group = |id: &String| format!("<item><groupId>{id}</groupId><groupName>{id}</groupName></item>");
        self.cards[card].iter().map(group).collect()
    }

    fn tag_set(&self, resource: &str) -> String {
        let tags = self.tags.get(resource).into_iter().flatten();
        tags.map(|(key, text)| format!("<item><key>{key}</key><value>{}</value></item>", escaped(text))).collect()
    }

    fn describe_interfaces(&self, query: &Query) -> String {
        let wanted: BTreeSet<String> = filtered(query, "network-interface-id").collect();
        let groups: Groups = filtered(query, "group-id").collect();
        let all = self.instances.iter().flat_map(|(instance, cards)| cards.iter().map(move |card| (instance, card)));
        let own = all.filter(|(_, id)| wanted.contains(*id) || !groups.is_disjoint(&self.cards[*id]));
        let items = own.map(|(instance, id)| {
            format!(
                "<item><networkInterfaceId>{id}</networkInterfaceId><vpcId>{VPC}</vpcId><status>in-use</status>\
                 <interfaceType>interface</interfaceType><attachment><attachmentId>eni-attach-0</attachmentId>\
                 <instanceId>{instance}</instanceId><status>attached</status></attachment>\
                 <groupSet>{}</groupSet><tagSet>{}</tagSet></item>",
                self.group_set(id),
                self.tag_set(id)
            )
        });
        format!("<networkInterfaceSet>{}</networkInterfaceSet>", items.collect::<String>())
    }

    fn create_snapshots(&mut self, query: &Query) -> String {
        let mut body = "<snapshotSet>".to_owned();
        let instance = value(query, "InstanceSpecification.InstanceId");
        self.snapshotted.entry(instance.to_owned()).or_insert_with(Instant::now);
        for (_, volume) in volumes(instance) {
            let id = format!("snap-{:017x}", self.snapshots.len());
            let prefix = "TagSpecification.1.Tag.";
            let keys = query.iter().filter(|(name, _)| name.starts_with(prefix) && name.ends_with(".Key"));
            let tags = keys.map(|(name, key)| (key.clone(), value(query, &name.replace(".Key", ".Value")).to_owned()));
            self.tags.insert(id.clone(), tags.collect());
            body.push_str(&format!(
                "<item><snapshotId>{id}</snapshotId><volumeId>{volume}</volumeId><state>pending</state></item>"
            ));
            self.snapshots.push((id, volume));
        }
        body + "</snapshotSet>"
    }

    fn describe_snapshots(&self, query: &Query) -> String {
        // By a tag, whose values are wanted.
        let wanted: BTreeSet<&String> =
            query.iter().filter(|(name, _)| name.starts_with("Filter.1.Value.")).map(|(_, value)| value).collect();
        let is_wanted = |id: &String| self.tags[id].values().any(|value| wanted.contains(value));
        let own = self.snapshots.iter().filter(|(id, _)| is_wanted(id));
        let items = own.map(|(id, volume)| {
            format!(
                "<item><snapshotId>{id}</snapshotId><volumeId>{volume}</volumeId><status>pending</status><tagSet>{}</tagSet></item>",
                self.tag_set(id)
            )
        });
        format!("<snapshotSet>{}</snapshotSet>", items.collect::<String>())
    }

    fn describe_tags(&self, query: &Query) -> String {
        let all = filtered(query, "resource-id").flat_map(|id| {
            let tags = self.tags.get(&id).cloned().unwrap_or_default();
            tags.into_iter().map(move |(key, text)| (id.clone(), key, text))
        });
        let items = all.map(|(id, key, text)| {
            format!(
                "<item><resourceId>{id}</resourceId><resourceType>volume</resourceType><key>{key}</key><value>{}</value></item>",
                escaped(&text)
            )
        });
        format!("<tagSet>{}</tagSet>", items.collect::<String>())
    }

    fn describe_attribute(&self, query: &Query) -> String {
        let (instance, name) = (value(query, "InstanceId").to_owned(), value(query, "Attribute").to_owned());
        let default = if name.starts_with("instance") { "terminate" } else { "false" };
        let value = self.attributes.get(&(instance, name.clone())).map_or(default, String::as_str);
        format!("<{name}><value>{value}</value></{name}>")
    }

    fn modify_instance(&mut self, query: &Query) -> String {
        let instance = value(query, "InstanceId").to_owned();
        let groups: Groups = listed(query, "GroupId").collect();
        if !groups.is_empty() {
            for card in self.instances[&instance].clone() {
                self.swap(&card, groups.clone());
            }
        } else {
            self.protected.entry(instance.clone()).or_insert_with(Instant::now);
        }
        for name in ["DisableApiTermination", "DisableApiStop", "InstanceInitiatedShutdownBehavior"] {
            if let Some((_, value)) = query.iter().find(|(key, _)| *key == format!("{name}.Value")) {
                let shown = format!("{}{}", name[..1].to_ascii_lowercase(), &name[1..]);
                self.attributes.insert((instance.clone(), shown), value.clone());
            }
        }
        for (name, device) in query.iter().filter(|(name, _)| name.ends_with(".DeviceName")) {
            let deletes = value(query, &name.replace("DeviceName", "Ebs.DeleteOnTermination")).to_owned();
            self.attributes.insert((instance.clone(), device.clone()), deletes);
        }
        "<return>true</return>".to_owned()
    }

    /// The answer to a call of DynamoDB.
    pub fn table(&mut self, operation: &str, input: &Value) -> Value {
        let key = |item: &Value| item["InstanceId"]["S"].as_str().expect("every item has the key").to_owned();
        match operation {
            "BatchGetItem" => {
                let tables = input["RequestItems"].as_object().expect("tables");
                let responses = tables.iter().map(|(table, asked)| {
                    let keys = asked["Keys"].as_array().expect("keys");
                    assert!(keys.len() <= 100, "DynamoDB reads at most 100 keys");
                    let found: Vec<_> = keys.iter().filter_map(|asked| self.items.get(&key(asked))).collect();
                    (table.clone(), json!(found))
                });
                json!({"Responses": responses.collect::<Map<_, _>>(), "UnprocessedKeys": {}})
            }
            "GetItem" => self.items.get(&key(&input["Key"])).map_or(json!({}), |item| json!({"Item": item})),
            "PutItem" => {
                let item = input["Item"].as_object().expect("an item").clone();
                self.items.insert(key(&input["Item"]), item);
                json!({})
            }
            "DeleteItem" => {
                self.items.remove(&key(&input["Key"]));
                json!({})
            }
            "UpdateItem" => {
                let fresh = input["Key"].as_object().expect("a key");
                let item = self.items.entry(key(&input["Key"])).or_insert_with(|| fresh.clone());
                update(item, input);
                if input["ReturnValues"] == "ALL_NEW" { json!({"Attributes": item}) } else { json!({}) }
            }
            "TransactWriteItems" => {
                let parts = input["TransactItems"].as_array().expect("operations");
                assert!(parts.len() <= 100, "DynamoDB takes at most 100 operations");
                for (kind, part) in parts.iter().flat_map(|part| part.as_object().expect("an operation")) {
                    match kind.as_str() {
                        "ConditionCheck" => {}
                        "Update" => drop(self.table("UpdateItem", part)),
                        "Put" => drop(self.table("PutItem", part)),
                        other => panic!("nobody is expected to {other} in a transaction"),
                    }
                }
                json!({})
            }
            other => panic!("nobody is expected to call {other}"),
        }
    }
}

fn volumes(instance: &str) -> [(&'static str, String); 2] {
    let number = instance.trim_start_matches("i-");
    [("/dev/xvda", format!("vol-a{}", &number[1..])), ("/dev/xvdb", format!("vol-b{}", &number[1..]))]
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn value<'a>(query: &'a Query, name: &str) -> &'a str {
    query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
}

/// The values of `Name.1`, `Name.2` and so on.
fn listed(query: &Query, name: &str) -> impl Iterator<Item = String> {
    let is_one = move |key: &str| {
        key.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')).is_some_and(|n| n.parse::<u32>().is_ok())
    };
    query.iter().filter(move |(key, _)| is_one(key)).map(|(_, value)| value.clone())
}

fn filtered<'a>(query: &'a Query, filter: &'a str) -> impl Iterator<Item = String> + 'a {
    let names = query.iter().filter(move |(key, name)| key.ends_with(".Name") && name == filter);
    let prefixes = names.map(|(key, _)| key.replace(".Name", ".Value"));
    prefixes.flat_map(move |prefix| listed(query, &prefix).collect::<Vec<_>>())
}

fn describe_groups(query: &Query) -> String {
    let everything = "<item><ipProtocol>-1</ipProtocol><ipRanges><item><cidrIp>0.0.0.0/0</cidrIp></item></ipRanges>\
                      <ipv6Ranges><item><cidrIpv6>::/0</cidrIpv6></item></ipv6Ranges></item>";
    let ssh = format!(
        "<item><ipProtocol>tcp</ipProtocol><fromPort>22</fromPort><toPort>22</toPort><groups><item>\
         <groupId>{FORENSIC}</groupId></item></groups></item>"
    );
    let loopback = "<item><ipProtocol>-1</ipProtocol><ipRanges><item><cidrIp>127.0.0.1/32</cidrIp></item></ipRanges>\
                    <ipv6Ranges><item><cidrIpv6>::1/128</cidrIpv6></item></ipv6Ranges></item>";
    let ours = |role: &str| {
        format!(
            "<item><key>ec2-isolation:role</key><value>{role}</value></item>\
             <item><key>aws:cloudformation:stack-id</key><value>{STACK}</value></item>"
        )
    };
    let all = [
        (ISOLATION, ours("isolation"), ssh.as_str(), loopback),
        (TRANSIT, ours("transit"), everything, everything),
        (FORENSIC, ours("forensic"), "", everything),
        ("sg-0a", String::new(), everything, everything),
        ("sg-0b", String::new(), everything, everything),
    ];
    let wanted: BTreeSet<String> = filtered(query, "group-id").collect();
    // None has a name: who looks for one finds nothing.
    let is_named = filtered(query, "group-name").next().is_some();
    // Whoever looks for a tag looks for ours: all of them are of one VPC and one stack.
    let is_marked = filtered(query, "tag-key").next().is_some();
    let is_wanted = |id: &str, tags: &str| {
        let is_left_out = is_named || is_marked && tags.is_empty();
        !is_left_out && (wanted.is_empty() || wanted.contains(id))
    };
    let own = all.into_iter().filter(|(id, tags, ..)| is_wanted(id, tags));
    let items = own.map(|(id, tags, ingress, egress)| {
        format!(
            "<item><groupId>{id}</groupId><groupName>{id}</groupName><vpcId>{VPC}</vpcId><ipPermissions>{ingress}</ipPermissions>\
             <ipPermissionsEgress>{egress}</ipPermissionsEgress><tagSet>{tags}</tagSet></item>"
        )
    });
    format!("<securityGroupInfo>{}</securityGroupInfo>", items.collect::<String>())
}

/// Carries an update expression out: SET with `if_not_exists` and `list_append`, REMOVE, ADD to a set, DELETE from one.
fn update(item: &mut Map<String, Value>, input: &Value) {
    let expression = input["UpdateExpression"].as_str().expect("an expression");
    for section in sections(expression) {
        let (verb, rest) = section.split_once(' ').expect("a verb and what it is for");
        for part in parts(rest) {
            match verb {
                "SET" => {
                    let (path, expression) = part.split_once(" = ").expect("an assignment");
                    let value = evaluated(item, expression, input);
                    *place(item, path, input) = value;
                }
                "ADD" => {
                    let (path, name) = part.split_once(' ').expect("a set and what is added");
                    let more = input["ExpressionAttributeValues"][name].clone();
                    let set = place(item, path, input);
                    if set.is_null() {
                        *set = more;
                    } else {
                        let (old, more) =
                            (set["SS"].as_array_mut().expect("a set"), more["SS"].as_array().expect("a set"));
                        let new: Vec<Value> = more.iter().filter(|value| !old.contains(value)).cloned().collect();
                        old.extend(new);
                    }
                }
                "DELETE" => {
                    let (name, members) = part.split_once(' ').expect("a set and what is taken out");
                    let gone = input["ExpressionAttributeValues"][members]["SS"].as_array().expect("a set");
                    if let Some(set) = item.get_mut(name).and_then(|set| set["SS"].as_array_mut()) {
                        set.retain(|member| !gone.contains(member));
                        // DynamoDB has no empty sets.
                        if set.is_empty() {
                            item.remove(name);
                        }
                    }
                }
                "REMOVE" => drop(item.remove(part.trim())),
                other => panic!("nobody is expected to {other}"),
            }
        }
    }
}

fn sections(expression: &str) -> Vec<&str> {
    let mut starts: Vec<usize> = ["SET ", "REMOVE ", "ADD ", "DELETE "]
        .iter()
        .filter_map(|verb| if expression.starts_with(verb) { Some(0) } else { expression.find(&format!(" {verb}")) })
        .collect();
    starts.sort_unstable();
    let ends = starts.iter().skip(1).copied().chain([expression.len()]).collect::<Vec<_>>();
    starts.iter().zip(ends).map(|(start, end)| expression[*start..end].trim()).collect()
}

/// Split at commas outside brackets.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

fn evaluated(item: &mut Map<String, Value>, expression: &str, input: &Value) -> Value {
    let arguments = |name: &str| {
        let inner = expression.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')?;
        let parts = parts(inner);
        Some((parts[0].to_owned(), parts[1].to_owned()))
    };
    if let Some((path, default)) = arguments("if_not_exists") {
        let found = place(item, &path, input).clone();
        return if found.is_null() { evaluated(item, &default, input) } else { found };
    }
    if let Some((first, second)) = arguments("list_append") {
        let mut list = evaluated(item, &first, input);
        let more = evaluated(item, &second, input);
        list["L"].as_array_mut().expect("a list").extend(more["L"].as_array().expect("a list").iter().cloned());
        return list;
    }
    assert!(expression.starts_with(':'), "unexpected expression {expression}");
    input["ExpressionAttributeValues"][expression].clone()
}

/// Where a path leads; null where there is nothing yet.
fn place<'a>(item: &'a mut Map<String, Value>, path: &str, input: &Value) -> &'a mut Value {
    let names = path.split('.').map(|name| match input["ExpressionAttributeNames"][name].as_str() {
        Some(full) => full.to_owned(),
        None => name.to_owned(),
    });
    let mut names = names.collect::<Vec<_>>().into_iter();
    let first = names.next().expect("a path has a name");
    let start = item.entry(first).or_insert(Value::Null);
    names.fold(start, |place, name| &mut place["M"][name])
}
