//! EBS's direct APIs: what is in a snapshot, block by block. The only file that names their SDK.

use std::time::Duration;

use aws_sdk_ebs::Client;
use aws_sdk_ebs::primitives::ByteStream;
use aws_sdk_ebs::types::ChecksumAlgorithm;
use aws_smithy_types::base64;
use sha2::{Digest as _, Sha256};

use crate::aws::error::{garbled, sent};
use crate::model::SnapshotId;
use crate::operator::ports::disks::{BlockPage, Blocks};
use crate::ports::{Call, CallError, Fault};

const LIST: &str = "ebs:ListSnapshotBlocks";
const GET: &str = "ebs:GetSnapshotBlock";
/// 100 to 10,000 are allowed (`MaxResults`, EBS direct APIs reference). A token has some hundred bytes.
const PAGE: i32 = 5000;
/// Half a megabyte comes after the head of the answer, which is all that the SDK's own time limit is about.
const BODY: Duration = Duration::from_secs(60);
/// Of a block (EBS User Guide, "EBS direct APIs").
const SIZE: usize = 512 << 10;

#[derive(Debug, Clone)]
pub struct Ebs(pub Client);

impl Blocks for Ebs {
    async fn list_blocks(&self, snapshot: &SnapshotId, from: u64, next: Option<String>) -> Call<BlockPage> {
        let request = self.0.list_snapshot_blocks().snapshot_id(snapshot.as_str()).max_results(PAGE);
        let from = i32::try_from(from).map_err(|_| garbled(LIST, format!("block {from} is out of reach")))?;
        let request = match next {
            Some(token) => request.next_token(token),
            None => request.starting_block_index(from),
        };
        let output = sent(LIST, request.send()).await?;
        let number =
            |name: &str, value: Option<u64>| value.ok_or_else(|| garbled(LIST, format!("the answer has no {name}")));
        let blocks = output.blocks().iter().map(|block| {
            let index = block.block_index().and_then(|index| u64::try_from(index).ok());
            Ok((number("index of a block", index)?, block.block_token().unwrap_or_default().to_owned()))
        });
        Ok(BlockPage {
            bytes: number("volume size", output.volume_size().and_then(|gib| u64::try_from(gib).ok()))? << 30,
            block_size: number("block size", output.block_size().and_then(|size| u64::try_from(size).ok()))?,
            blocks: blocks.collect::<Call<_>>()?,
            next: output.next_token().filter(|token| !token.is_empty()).map(str::to_owned),
        })
    }

    async fn block(&self, snapshot: &SnapshotId, index: u64, token: &str) -> Call<Vec<u8>> {
        let index = i32::try_from(index).map_err(|_| garbled(GET, format!("block {index} is out of reach")))?;
        let request = self.0.get_snapshot_block().snapshot_id(snapshot.as_str()).block_index(index).block_token(token);
        let output = sent(GET, request.send()).await?;
        let (checksum, algorithm) = (output.checksum().map(str::to_owned), output.checksum_algorithm().cloned());
        let body = tokio::time::timeout(BODY, whole(output.block_data)).await;
        let bytes = body.map_err(|_| lost(Fault::TimedOut, format!("block {index} was not read in time")))??;
        if algorithm != Some(ChecksumAlgorithm::ChecksumAlgorithmSha256) {
            return Err(garbled(GET, format!("block {index} has no SHA-256")));
        }
        if checksum.as_deref() != Some(base64::encode(Sha256::digest(&bytes)).as_str()) {
            return Err(garbled(GET, format!("block {index} is not what its checksum says")));
        }
        Ok(bytes)
    }
}

/// Without a second copy of it.
async fn whole(mut body: ByteStream) -> Call<Vec<u8>> {
    let mut bytes = Vec::with_capacity(SIZE);
    while let Some(part) = body.next().await {
        bytes.extend_from_slice(&part.map_err(|error| lost(Fault::Connection, error.to_string()))?);
    }
    Ok(bytes)
}

fn lost(fault: Fault, message: String) -> CallError {
    CallError { action: GET, fault, code: "NoAnswer".to_owned(), message }
}
