//! The form of an image, which shows whether it is whole: LiME's, as AVML writes it without compression. Pure.
//!
//! An image is a row of records: a header of 32 bytes with the first and the last address of a piece of memory, then the piece. AVML reads
//! upward in blocks of 16 MiB and leaves out each block that holds zeros only (`src/image.rs` of AVML 0.21.0, `copy_if_nonzero`).
//! So an image may be smaller than the memory and whole.

/// Of a header.
pub(super) const HEADER: usize = 32;
/// LiME's magic number and version 1, as the first eight bytes of a header in little-endian order.
const MAGIC: u64 = 0x1_4c69_4d45;
/// `MAX_BLOCK_SIZE` of AVML.
pub(super) const BLOCK: u64 = 16 << 20;

/// An image, as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Lime {
    header: Vec<u8>,
    /// Of the record that is being read.
    left: u64,
    pub records: u64,
    /// Bytes of memory in whole and begun records.
    pub held: u64,
    /// The highest address that was read, and one.
    pub end: u64,
    /// Where it ceases to be an image.
    pub strange_at: Option<u64>,
    pub bytes: u64,
}

/// What an image lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    #[error("it is empty")]
    Empty,
    #[error("byte {0} begins no record of a memory image")]
    Strange(u64),
    #[error("it breaks off {0} bytes before the end of a record")]
    BrokenOff(u64),
    #[error(
        "it is smaller than the memory ({held} of {memory} bytes) and ends {missing} bytes below the top of it: AVML reads upward, so the \
         rest is missing"
    )]
    Truncated { held: u64, memory: u64, missing: u64 },
}

impl Lime {
    /// The next bytes of the image.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left == 0 {
                let (head, rest) = bytes.split_at(bytes.len().min(HEADER - self.header.len()));
                self.header.extend_from_slice(head);
                self.bytes += head.len() as u64;
                bytes = rest;
                if self.header.len() == HEADER {
                    let header = std::mem::take(&mut self.header);
                    self.begin(numbers(&header));
                }
            } else {
                let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.skip(taken as u64);
                bytes = bytes.get(taken..).unwrap_or_default();
            }
        }
    }

    /// A record whose header was read by itself, with so many bytes left of the image behind the header.
    pub fn record(&mut self, header: [u64; 4], behind: u64) {
        self.bytes += HEADER as u64;
        self.begin(header);
        self.skip(self.left.min(behind));
    }

    fn begin(&mut self, [magic, first, last, padding]: [u64; 4]) {
        let size = last.checked_sub(first).and_then(|size| size.checked_add(1));
        match size.filter(|_| magic == MAGIC && padding == 0 && self.strange_at.is_none()) {
            Some(size) => {
                self.records += 1;
                self.left = size;
                self.end = self.end.max(first);
            }
            None => self.strange_at = self.strange_at.or(Some(self.bytes - HEADER as u64)),
        }
    }

    fn skip(&mut self, bytes: u64) {
        self.left -= bytes;
        self.held += bytes;
        self.end += bytes;
        self.bytes += bytes;
    }

    /// Whether it holds a memory of so many bytes, whose addresses end at `top`.
    ///
    /// A block of zeros may be left out at the top, too, but not more: the kernel keeps its own tables up there.
    pub fn check(&self, memory: u64, top: u64) -> Result<(), Incomplete> {
        if let Some(at) = self.strange_at {
            return Err(Incomplete::Strange(at));
        }
        if !self.header.is_empty() || self.left > 0 {
            let missing = if self.left > 0 { self.left } else { (HEADER - self.header.len()) as u64 };
            return Err(Incomplete::BrokenOff(missing));
        }
        if self.records == 0 {
            return Err(Incomplete::Empty);
        }
        match top.saturating_sub(self.end) {
            missing if missing > BLOCK && self.held < memory => {
                Err(Incomplete::Truncated { held: self.held, memory, missing })
            }
            _ => Ok(()),
        }
    }
}

fn numbers(header: &[u8]) -> [u64; 4] {
    let mut numbers = [0; 4];
    for (number, bytes) in numbers.iter_mut().zip(header.chunks(8)) {
        *number = bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(first: u64, size: u64) -> Vec<u8> {
        let header = [MAGIC, first, first + size - 1, 0];
        header.iter().flat_map(|number| number.to_le_bytes()).chain((0..size).map(|n| n as u8)).collect()
    }

    /// What is found of an image, fed in pieces of this size.
    #[track_caller]
    fn check(image: &[u8], memory: u64, top: u64, expected: Result<(), Incomplete>) {
        for piece in [1, 7, 32, 4096] {
            let mut lime = Lime::default();
            image.chunks(piece).for_each(|piece| lime.feed(piece));
            assert_eq!(lime.check(memory, top), expected, "in pieces of {piece}");
            assert_eq!(lime.bytes, image.len() as u64);
        }
    }

    #[test]
    fn records_up_to_the_top_are_a_whole_image() {
        let image = [record(4096, 100), record(8192, 50)].concat();
        check(&image, 150, 8242, Ok(()));
        // Zeros between them were left out.
        check(&image, 4000, 8242, Ok(()));
        check(&image, 150, 8242 + BLOCK, Ok(()));
    }

    #[test]
    fn an_image_that_stops_short_is_named() {
        let image = [record(4096, 100), record(8192, 50)].concat();
        check(&image[..image.len() - 1], 150, 8242, Err(Incomplete::BrokenOff(1)));
        check(&image[..100 + 32 + 10], 150, 8242, Err(Incomplete::BrokenOff(22)));
        check(&[], 150, 8242, Err(Incomplete::Empty));
        let missing = BLOCK + 1;
        let truncated = Incomplete::Truncated { held: 150, memory: 1 << 30, missing };
        check(&image, 1 << 30, 8242 + missing, Err(truncated));
    }

    #[test]
    fn what_is_no_image_is_named_by_its_place() {
        check(b"sudo: a password is required, and more than that", 1, 1, Err(Incomplete::Strange(0)));
        let image = [record(4096, 100), vec![0; 40]].concat();
        check(&image, 100, 4196, Err(Incomplete::Strange(132)));
        // The last address before the first.
        let backwards: Vec<u8> = [MAGIC, 200, 100, 0].iter().flat_map(|number| number.to_le_bytes()).collect();
        check(&backwards, 1, 1, Err(Incomplete::Strange(0)));
    }

    #[test]
    fn headers_alone_say_the_same() {
        let mut lime = Lime::default();
        lime.record([MAGIC, 4096, 4195, 0], 182);
        lime.record([MAGIC, 8192, 8241, 0], 50);
        assert_eq!((lime.check(150, 8242), lime.bytes, lime.held, lime.records), (Ok(()), 214, 150, 2));
        let mut lime = Lime::default();
        lime.record([MAGIC, 4096, 4195, 0], 60);
        assert_eq!(lime.check(150, 8242), Err(Incomplete::BrokenOff(40)));
    }
}
