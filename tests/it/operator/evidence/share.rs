//! Copies of the snapshots for another account.

use std::sync::Mutex;

use ec2_isolation::model::Fault;
use ec2_isolation::operator::{ShareOrder, Shared};

use super::*;
use crate::world::disks::{KEY, Pending};

pub(super) const ACCOUNT: &str = "111122223333";
pub(super) const OWN: &str = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012";

pub(super) async fn share_order(world: &World, account: &str, key: &str) -> Result<ShareOrder, Trouble> {
    let program = operator(world);
    let incident = program.incident(&by_table()).await?;
    program.share_order(incident, &ALL, account, key).await
}

async fn share(world: &World, key: &str) -> Shared {
    let order = share_order(world, ACCOUNT, key).await.unwrap();
    operator(world).share(&order, &|_| ()).await.unwrap()
}

fn copies(world: &World) -> BTreeMap<String, String> {
    world.data().disks.copies.iter().map(|(id, key)| (id.to_string(), key.clone())).collect()
}

#[tokio::test(start_paused = true)]
async fn each_snapshot_is_copied_with_the_key_waited_for_shared_read_back_and_recorded() {
    let world = isolated().await;
    let shown = Mutex::new(vec![]);
    let order = share_order(&world, ACCOUNT, OWN).await.unwrap();
    assert!(order.to_string().starts_with("2 snapshots to be copied, of volumes of 16 GiB in all,"), "{order}");
    let shared =
        operator(&world).share(&order, &|progress| shown.lock().unwrap().push(progress.status.clone())).await.unwrap();
    assert!(!shared.failed, "{shared}");
    assert_eq!(
        copies(&world),
        [("snap-c00".to_owned(), OWN.to_owned()), ("snap-c01".to_owned(), OWN.to_owned())].into()
    );
    let with: BTreeSet<String> = [ACCOUNT.to_owned()].into();
    assert!(world.data().disks.shared.values().all(|accounts| *accounts == with));
    assert!(shown.into_inner().unwrap().contains(&"2 under way, 60% done".to_owned()));
    let a = snapshot_of(&world, A);
    assert_eq!(
        (shared.snapshots[0].snapshot.as_str(), shared.snapshots[0].shared.as_deref()),
        (a.as_str(), Some("snap-c00"))
    );
    let lines = history(&world, A);
    let lines: Vec<&String> = lines.iter().filter(|line| line.contains("snap-c00")).collect();
    assert!(
        lines[0].contains(&format!(" snapshots copied: snap-c00 of {a} with key {OWN} (asked by arn:")),
        "{lines:?}"
    );
    assert!(
        lines[1].contains(&format!(" snapshots shared: snap-c00 with account {ACCOUNT} (asked by arn:")),
        "{lines:?}"
    );
    // EC2 does not copy tags.
    let data = world.data();
    let tags = &data.tags["snap-c00"];
    assert_eq!((tags["ec2-isolation:copy-of"].as_str(), tags["ec2-isolation:instance"].as_str()), (a.as_str(), A));
    assert!(!tags.contains_key("ec2-isolation:episode"), "it is none of the snapshots that the function counts");
    drop(data);
    assert_eq!(
        shared.commands[0],
        "aws ec2 copy-snapshot --source-snapshot-id snap-c00 --source-region us-east-1 --encrypted --kms-key-id <your key> --region us-east-1"
    );
    assert!(shared.commands[2].starts_with("aws ec2 lock-snapshot --snapshot-id <your copy> --lock-mode governance "));
}

#[tokio::test(start_paused = true)]
async fn repeating_it_copies_nothing_and_another_key_copies_again() {
    let world = isolated().await;
    let first = share(&world, OWN).await;
    assert_eq!(share(&world, OWN).await, first);
    assert_eq!(world.count("ec2:CopySnapshot"), 2);
    // The id of the key is the same key.
    assert!(!share(&world, "12345678-1234-1234-1234-123456789012").await.failed);
    assert_eq!(world.count("ec2:CopySnapshot"), 2);
    let other = OWN.replace("key/1234", "key/4321");
    assert!(!share(&world, &other).await.failed);
    assert_eq!(copies(&world).values().filter(|key| **key == other).count(), 2);
}

/// As EC2 shows it, by the state of the copy: the call had succeeded.
#[tokio::test(start_paused = true)]
async fn a_copy_that_fails_late_is_a_failure_with_its_reason_and_is_made_anew_the_next_time() {
    let world = isolated().await;
    world.data().disks.bad_keys.insert(OWN.to_owned());
    let shared = share(&world, OWN).await;
    assert!(shared.failed && shared.commands.is_empty());
    assert_eq!(
        shared.snapshots[0].why.as_deref(),
        Some("the copy snap-c00 failed: Given key ID is not accessible; mostly its key may not be used")
    );
    assert_eq!(world.count("ec2:ModifySnapshotAttribute"), 0);
    world.data().disks.bad_keys.clear();
    let again = share(&world, OWN).await;
    assert!(!again.failed, "{again}");
    assert_eq!(again.snapshots[0].shared.as_deref(), Some("snap-c02"));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_right_is_refused_before_anything_is_done() {
    let world = isolated().await;
    for (account, key, why) in [
        ("12", OWN, "nothing was changed: \"12\" is no account: it has 12 digits"),
        ("123456789012", OWN, "nothing was changed: 123456789012 is the account that the snapshots are in"),
        (
            ACCOUNT,
            "alias/aws/ebs",
            "nothing was changed: alias/aws/ebs cannot be used: it is managed by AWS, and no snapshot that is encrypted with it can be \
             shared. Give a customer managed key by its ARN or id",
        ),
        (
            ACCOUNT,
            "arn:aws:kms:us-east-1:123456789012:alias/aws/ebs",
            "nothing was changed: arn:aws:kms:us-east-1:123456789012:alias/aws/ebs cannot be used: it is managed by AWS, and no snapshot \
             that is encrypted with it can be shared. Give a customer managed key by its ARN or id",
        ),
        (
            ACCOUNT,
            "alias/ir",
            "nothing was changed: alias/ir cannot be used: an alias may mean another key tomorrow. Give a customer managed key by its ARN or id",
        ),
        (
            ACCOUNT,
            "arn:aws:kms:eu-west-1:123456789012:key/12345678-1234-1234-1234-123456789012",
            "nothing was changed: arn:aws:kms:eu-west-1:123456789012:key/12345678-1234-1234-1234-123456789012 is a key of another Region \
             than us-east-1, where the copies are made",
        ),
        (ACCOUNT, "mine", "nothing was changed: mine is neither the ARN nor the id of a KMS key"),
    ] {
        assert_eq!(share_order(&world, account, key).await.unwrap_err().to_string(), why);
    }
    assert_eq!(world.count("ec2:CopySnapshot") + world.count("ec2:ModifySnapshotAttribute"), 0);
}

/// A snapshot that has the key already needs no copy; if AWS manages that key, EC2 refuses, and that is said.
#[tokio::test(start_paused = true)]
async fn a_snapshot_that_has_the_key_is_shared_itself() {
    let world = isolated().await;
    // The world's own key has a short id, which no key of KMS has.
    let key = "arn:aws:kms:us-east-1:123456789012:key/k";
    assert_eq!(key, KEY);
    let refused = share_order(&world, ACCOUNT, key).await.unwrap_err().to_string();
    assert!(refused.ends_with("is neither the ARN nor the id of a KMS key"), "{refused}");
    let shared = share(&world, OWN).await;
    assert!(!shared.failed);
    let copy: SnapshotId = "snap-c00".parse().unwrap();
    let taken = |taken: &mut SnapshotId| *taken = copy.clone();
    world.data().records.get_mut(&A.parse().unwrap()).unwrap().snapshots.taken.values_mut().for_each(taken);
    let copied = world.count("ec2:CopySnapshot");
    let again = share(&world, OWN).await;
    assert_eq!((again.snapshots[0].shared.as_deref(), world.count("ec2:CopySnapshot")), (Some("snap-c00"), copied));
    world.data().disks.default_keys.insert(OWN.to_owned());
    world.data().disks.shared.clear();
    let refused = share(&world, OWN).await;
    assert!(
        refused.snapshots[0].why.as_ref().is_some_and(|why| why.starts_with("snap-c00 cannot be shared: ec2:Modify")),
        "{refused}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_only_its_tags_say_to_be_ours_is_not_shared_and_named() {
    let world = isolated().await;
    share(&world, OWN).await;
    let instance = A.parse().unwrap();
    world.data().records.get_mut(&instance).unwrap().history.retain(|line| !line.contains("snap-c00"));
    world.data().disks.shared.clear();
    let shared = share(&world, OWN).await;
    assert_eq!(shared.snapshots[0].shared.as_deref(), Some("snap-c02"));
    assert!(
        shared.said[0].starts_with("snap-c00 is a copy of snap-10, as only its tags say, so it is not used"),
        "{shared}"
    );
    assert!(!world.data().disks.shared.contains_key(&"snap-c00".parse().unwrap()));
}

/// EC2 allows twenty copies at once, and others make some as well.
#[tokio::test(start_paused = true)]
async fn more_than_twenty_copies_wait_for_their_turn() {
    let world = isolated().await;
    for n in 0..19 {
        let id: SnapshotId = format!("snap-d{n:02x}").parse().unwrap();
        world.data().disks.copies.insert(id.clone(), "other".to_owned());
        world.data().disks.pending.insert(id, Pending { looks: None, fails: None });
    }
    let order = share_order(&world, ACCOUNT, OWN).await.unwrap();
    let program = operator(&world);
    let freeing = async {
        tokio::time::sleep(std::time::Duration::from_secs(300)).await;
        world.data().disks.pending.retain(|id, _| !id.as_str().starts_with("snap-d"));
        std::future::pending::<()>().await
    };
    let shared = tokio::select! {
        shared = program.share(&order, &|_| ()) => shared.unwrap(),
        () = freeing => unreachable!(),
    };
    assert!(!shared.failed, "{shared}");
    assert!(world.count("ec2:CopySnapshot") > 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_shown_shared_is_not_claimed() {
    let world = isolated().await;
    let order = share_order(&world, ACCOUNT, OWN).await.unwrap();
    world.data().always = Some(("ec2:ModifySnapshotAttribute", Fault::Denied));
    let shared = operator(&world).share(&order, &|_| ()).await.unwrap();
    assert!(shared.failed && shared.snapshots.iter().all(|snapshot| snapshot.shared.is_none()), "{shared}");
    assert!(!history(&world, A).iter().any(|line| line.contains("snapshots shared")));
}

/// Killed after any call, and begun anew: everything is shared, and a copy that could not be recorded is named.
#[tokio::test(start_paused = true)]
async fn a_run_that_is_killed_at_any_call_is_gone_on_with() {
    for after in [false, true] {
        for call in 1.. {
            let world = isolated().await;
            if !dies(&world, call, after, async |process| share(process, OWN).await).await {
                assert!(call > 10, "{call}");
                break;
            }
            let shared = share(&world, OWN).await;
            assert!(!shared.failed, "call {call}: {shared}");
            let used: Vec<String> = shared.snapshots.iter().map(|snapshot| snapshot.shared.clone().unwrap()).collect();
            for copy in copies(&world).keys().filter(|copy| !used.contains(copy)) {
                assert!(
                    shared.said.iter().any(|said| said.starts_with(copy.as_str())),
                    "call {call}: {copy}, {shared}"
                );
            }
        }
    }
}
