//! The SHA-256 of a snapshot's whole image. Blocks are read side by side and hashed in their order; what was never written is zeros.
//!
//! **It streams**: what is in memory does not depend on the size of the snapshot.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use sha2::{Digest as _, Sha256};

use super::TRIES;
use crate::model::SnapshotId;
use crate::operator::ports::disks::Blocks;
use crate::ports::{Call, CallError, Fault};

/// Blocks of half a megabyte that are read at once. A snapshot answers 1,000 requests a second
/// (EBS User Guide, "Optimize performance"). Each is in memory about twice: with 16 the program came to 64 MiB.
const AT_ONCE: usize = 8;
static ZEROS: [u8; 1 << 19] = [0; 1 << 19];
/// Others get their turn after so many bytes of zeros.
const TURN: u64 = 64 << 20;

/// What a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// Of the image of the whole volume.
    pub sha256: String,
    pub bytes: u64,
    pub block_size: u64,
    /// How many were written, and read.
    pub blocks: u64,
}

/// Reads a snapshot of so many bytes. `on_progress` gets how many bytes of the image are hashed, and of how many.
pub(super) async fn image<B: Blocks>(
    ebs: &B,
    snapshot: &SnapshotId,
    all: u64,
    on_progress: &(impl Fn(u64, u64) + Sync),
) -> Call<Image> {
    let (mut hash, mut at, mut blocks) = (Sha256::new(), 0, 0);
    let (mut from, mut next) = (0, None);
    loop {
        let page = again(|| ebs.list_blocks(snapshot, from, next.clone())).await?;
        let size = page.block_size;
        if page.bytes != all || size == 0 || !all.is_multiple_of(size) {
            return Err(wrong(format!("{snapshot} is of {} bytes in blocks of {size}, not of {all}", page.bytes)));
        }
        let last = page.blocks.last().map(|(index, _)| *index);
        let reads = stream::iter(page.blocks).map(|(index, token)| read(ebs, snapshot, index, token));
        let mut reads = pin!(reads.buffered(AT_ONCE));
        while let Some(read) = reads.next().await {
            let (index, bytes) = read?;
            let start = index * size;
            if start < at || start + size > all || bytes.len() as u64 != size {
                return Err(wrong(format!(
                    "{snapshot} has a block {index} of {} bytes where none can be",
                    bytes.len()
                )));
            }
            zeros(&mut hash, start - at).await;
            hash.update(&bytes);
            (at, blocks) = (start + size, blocks + 1);
            on_progress(at, all);
        }
        // A token for the next page ends after an hour, a block's number never: it begins after the last one.
        (from, next) = match (page.next, last) {
            (None, _) => {
                zeros(&mut hash, all - at).await;
                let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
                return Ok(Image { sha256, bytes: all, block_size: size, blocks });
            }
            (Some(_), Some(last)) => (last + 1, None),
            (Some(token), None) => (from, Some(token)),
        };
    }
}

/// One block. A token that has ended, as they do after seven days, is replaced once.
async fn read<B: Blocks>(ebs: &B, snapshot: &SnapshotId, index: u64, token: String) -> Call<(u64, Vec<u8>)> {
    let refused = match again(|| ebs.block(snapshot, index, &token)).await {
        Ok(bytes) => return Ok((index, bytes)),
        Err(error) if error.fault == Fault::Refused => error,
        Err(error) => return Err(error),
    };
    let page = again(|| ebs.list_blocks(snapshot, index, None)).await?;
    let (_, token) = page.blocks.into_iter().find(|(found, _)| *found == index).ok_or(refused)?;
    Ok((index, again(|| ebs.block(snapshot, index, &token)).await?))
}

async fn zeros(hash: &mut Sha256, mut bytes: u64) {
    let mut turn = 0;
    while bytes > 0 {
        let part = bytes.min(ZEROS.len() as u64);
        hash.update(ZEROS.get(..usize::try_from(part).unwrap_or(ZEROS.len())).unwrap_or(&ZEROS));
        bytes -= part;
        turn += part;
        if turn >= TURN {
            turn = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Until it succeeds, or it will not.
async fn again<T, F: Future<Output = Call<T>>>(call: impl Fn() -> F) -> Call<T> {
    let mut pause = Duration::from_millis(200);
    for _ in 1..TRIES {
        match call().await {
            Err(error) if error.fault.may_pass() => tokio::time::sleep(pause).await,
            result => return result,
        }
        pause = (pause * 2).min(Duration::from_secs(10));
    }
    call().await
}

fn wrong(message: String) -> CallError {
    CallError { action: "ebs:ListSnapshotBlocks", fault: Fault::Garbled, code: "Garbled".to_owned(), message }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Mutex;

    use super::*;
    use crate::operator::ports::disks::BlockPage;

    const BLOCK: u64 = 1 << 19;
    const BLOCKS: u64 = 64;

    /// A snapshot of 32 MiB.
    #[derive(Default)]
    struct Snapshot {
        /// Each byte of a block is this one.
        written: BTreeMap<u64, u8>,
        page: Option<usize>,
        /// The first page has none.
        begins_empty: bool,
        /// Blocks whose token has ended, until they are listed by themselves.
        ended: Mutex<BTreeSet<u64>>,
        /// Calls that fail before one succeeds, and how.
        fails: Mutex<Vec<Fault>>,
        calls: Mutex<u32>,
        at_once: Mutex<(usize, usize)>,
    }

    fn failed<T>(fault: Fault) -> Call<T> {
        Err(CallError { action: "ebs", fault, code: "X".to_owned(), message: String::new() })
    }

    impl Snapshot {
        fn call(&self) -> Call<()> {
            *self.calls.lock().unwrap() += 1;
            self.fails.lock().unwrap().pop().map_or(Ok(()), failed)
        }

        fn image(&self) -> String {
            let mut hash = Sha256::new();
            for index in 0..BLOCKS {
                hash.update(vec![self.written.get(&index).copied().unwrap_or_default(); BLOCK as usize]);
            }
            hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
        }
    }

    impl Blocks for Snapshot {
        async fn list_blocks(&self, _: &SnapshotId, from: u64, next: Option<String>) -> Call<BlockPage> {
            self.call()?;
            let rest: Vec<u64> = self.written.range(from..).map(|(index, _)| *index).collect();
            let is_empty = self.begins_empty && from == 0 && next.is_none();
            let size = if is_empty { 0 } else { self.page.unwrap_or(usize::MAX) };
            let here: Vec<u64> = rest.iter().take(size).copied().collect();
            let mut ended = self.ended.lock().unwrap();
            let token = |index: u64| {
                let is_fresh = index == from && from > 0 && ended.remove(&index);
                if ended.contains(&index) && !is_fresh { "ended".to_owned() } else { format!("token {index}") }
            };
            let more = (here.len() < rest.len()).then(|| "next".to_owned());
            let mut token = token;
            let blocks = here.into_iter().map(|index| (index, token(index))).collect();
            Ok(BlockPage { bytes: BLOCKS * BLOCK, block_size: BLOCK, blocks, next: more })
        }

        async fn block(&self, _: &SnapshotId, index: u64, token: &str) -> Call<Vec<u8>> {
            self.call()?;
            if token != format!("token {index}") {
                return failed(Fault::Refused);
            }
            {
                let mut at_once = self.at_once.lock().unwrap();
                at_once.0 += 1;
                at_once.1 = at_once.1.max(at_once.0);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.at_once.lock().unwrap().0 -= 1;
            self.written.get(&index).map_or_else(|| failed(Fault::Refused), |byte| Ok(vec![*byte; BLOCK as usize]))
        }
    }

    async fn digest(snapshot: &Snapshot) -> Call<Image> {
        image(snapshot, &"snap-01".parse().unwrap(), BLOCKS * BLOCK, &|_, _| ()).await
    }

    /// The first and the last block, and some between, are written.
    fn some() -> Snapshot {
        Snapshot { written: [(0, 1), (1, 2), (7, 3), (40, 4), (BLOCKS - 1, 5)].into(), ..Snapshot::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn holes_are_zeros_wherever_they_are() {
        let all = (0..BLOCKS).map(|index| (index, 9)).collect();
        for written in [BTreeMap::new(), [(0, 1)].into(), [(BLOCKS - 1, 1)].into(), [(5, 1), (9, 2)].into(), all] {
            let snapshot = Snapshot { written, ..Snapshot::default() };
            let found = digest(&snapshot).await.unwrap();
            assert_eq!((found.sha256, found.blocks), (snapshot.image(), snapshot.written.len() as u64));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pages_a_page_without_a_block_and_tokens_that_have_ended_change_nothing() {
        let expected = some().image();
        for page in 1..7 {
            for begins_empty in [false, true] {
                let snapshot = Snapshot { page: Some(page), begins_empty, ..some() };
                assert_eq!(digest(&snapshot).await.unwrap().sha256, expected, "{page} {begins_empty}");
            }
        }
        let snapshot = Snapshot { ended: Mutex::new([7, 40].into()), ..some() };
        assert_eq!(digest(&snapshot).await.unwrap().sha256, expected);
        // One that is refused with a new token, too, is not read.
        let snapshot = Snapshot { ended: Mutex::new([0].into()), ..some() };
        assert_eq!(digest(&snapshot).await.map_err(|error| error.fault), Err(Fault::Refused));
    }

    /// At whichever call.
    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again_and_what_will_not_is_not() {
        let expected = some().image();
        for fault in [Fault::Throttled, Fault::Server, Fault::Connection, Fault::TimedOut, Fault::Garbled] {
            for times in [1, 5] {
                let snapshot = Snapshot { fails: Mutex::new(vec![fault; times]), ..some() };
                assert_eq!(digest(&snapshot).await.unwrap().sha256, expected, "{fault:?}");
            }
            let snapshot = Snapshot { fails: Mutex::new(vec![fault; 1000]), ..some() };
            assert_eq!(digest(&snapshot).await.map_err(|error| error.fault), Err(fault));
        }
        let snapshot = Snapshot { fails: Mutex::new(vec![Fault::Denied]), ..some() };
        assert_eq!(digest(&snapshot).await.map_err(|error| error.fault), Err(Fault::Denied));
        assert_eq!(*snapshot.calls.lock().unwrap(), 1);
    }

    /// So many, and no more, are in memory.
    #[tokio::test(start_paused = true)]
    async fn blocks_are_read_side_by_side_and_never_too_many() {
        let snapshot = Snapshot { written: (0..BLOCKS).map(|index| (index, 9)).collect(), ..Snapshot::default() };
        digest(&snapshot).await.unwrap();
        assert_eq!(snapshot.at_once.lock().unwrap().1, AT_ONCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_of_another_size_is_not_digested() {
        let other = image(&some(), &"snap-01".parse().unwrap(), 1 << 30, &|_, _| ()).await;
        assert_eq!(other.unwrap_err().message, "snap-01 is of 33554432 bytes in blocks of 524288, not of 1073741824");
    }
}
