//! The part of the demo about credentials: what was stolen from the first instance before its isolation, and a sibling's with the same
//! role.

use std::process::Command;

use serde_json::{Value, json};

use crate::Clock;
use crate::cloud::Cloud;
use crate::fleet::aws;

const ROLE: &str = "prepared-web";

/// Credentials of the role, as each of two instances gets them.
pub struct Theft<'a> {
    cloud: &'a Cloud,
    clock: &'a Clock,
    stolen: Value,
    siblings: Value,
}

impl<'a> Theft<'a> {
    pub async fn commit(cloud: &'a Cloud, clock: &'a Clock, [first, second]: [&str; 2]) -> Self {
        let admin = cloud.credentials();
        let call = |service: &str, operation: &str, arguments: Value| {
            aws(&admin, service, operation, &arguments).unwrap_or_else(|error| panic!("{operation}: {error:?}"))
        };
        let everything =
            json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}});
        call("iam", "create_role", json!({"RoleName": ROLE, "Path": "/team/", "AssumeRolePolicyDocument": "{}"}));
        let policy = json!({"RoleName": ROLE, "PolicyName": "all", "PolicyDocument": everything.to_string()});
        call("iam", "put_role_policy", policy);
        call("iam", "create_instance_profile", json!({"InstanceProfileName": ROLE}));
        call("iam", "add_role_to_instance_profile", json!({"InstanceProfileName": ROLE, "RoleName": ROLE}));
        for instance in [first, second] {
            let profile = json!({"InstanceId": instance, "IamInstanceProfile": {"Name": ROLE}});
            call("ec2", "associate_iam_instance_profile", profile);
        }
        clock.step(&format!("somebody copies the credentials of {first} from its metadata service"));
        let stolen = cloud.put("instance-credentials", &json!({"id": first})).await;
        let siblings = cloud.put("instance-credentials", &json!({"id": second})).await;
        Self { cloud, clock, stolen, siblings }
    }

    /// Whether each of them may read tables: the stolen ones, the sibling's.
    fn work(&self) -> [bool; 2] {
        [&self.stolen, &self.siblings].map(|credentials| {
            let text = |name: &str| credentials[name].as_str().unwrap_or_default();
            let session = [
                ("AWS_ACCESS_KEY_ID", text("access_key_id")),
                ("AWS_SECRET_ACCESS_KEY", text("secret_access_key")),
                ("AWS_SESSION_TOKEN", text("session_token")),
            ];
            let place =
                self.cloud.credentials().into_iter().filter(|(name, _)| !session.iter().any(|(own, _)| own == name));
            let all: Vec<_> = place.chain(session).collect();
            aws(&all, "dynamodb", "list_tables", &json!({})).is_ok()
        })
    }

    fn program(&self, arguments: &[&str]) -> bool {
        self.clock.step(&format!("ec2-isolation {}", arguments.join(" ")));
        let program = env!("CARGO_BIN_EXE_ec2-isolation");
        let ended = Command::new(program).args(arguments).env_clear().envs(self.cloud.credentials()).output();
        let ended = ended.expect("the program runs");
        let text = String::from_utf8_lossy(&ended.stdout);
        text.lines()
            .filter(|line| line.contains("DENIED") || line.contains("denied"))
            .for_each(|line| println!("    {line}"));
        if !ended.status.success() {
            println!("{text}{}", String::from_utf8_lossy(&ended.stderr));
        }
        ended.status.success()
    }

    /// Denies the stolen ones, which the isolation alone does not.
    pub fn deny(&self, stack: &str, first: &str) -> bool {
        let before = self.work();
        let is_done = self.program(&["isolate", first, "--stack", stack, "--revoke", "--yes"]);
        let after = self.work();
        let word = |works: bool| if works { "work" } else { "are denied" };
        println!("    isolated: the stolen credentials {}, the sibling's {}", word(before[0]), word(before[1]));
        println!("    revoked:  the stolen credentials {}, the sibling's {}", word(after[0]), word(after[1]));
        is_done && before == [true, true] && after == [false, true]
    }

    /// When the incident is over.
    pub fn lift(&self, stack: &str) -> bool {
        self.program(&["restore", "--stack", stack, "--finish", "--yes"]) && self.work() == [true, true]
    }
}
