//! TensorBoard's event file: one record per epoch with its figures.
//!
//! Written here, because the crates for it (tensorboard-rs and tensorboard-proto, last released in 2022) are no longer maintained. A
//! record is its length, data and their checksums (TFRecord); the data is protobuf, of which an event needs four fields:
//! <https://github.com/tensorflow/tensorboard/blob/master/tensorboard/compat/proto/event.proto>.

use crate::error::{Error, Result};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// An open event file.
pub struct Events {
    file: std::fs::File,
    path: PathBuf,
}

impl Events {
    /// Starts a new file in the folder; TensorBoard joins the files of a resumed run.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn start(folder: &Path) -> Result<Self> {
        let path = (0..)
            .map(|n| folder.join(format!("events.out.tfevents.{:010}.face96.{n}", now() as u64)))
            .find(|p| !p.exists())
            .expect("some number is free");
        let file = std::fs::File::create_new(&path).map_err(Error::io(&path))?;
        let mut events = Self { file, path };
        events.write(&event(now(), 0, &field(3, b"brain.Event:2")))?;
        Ok(events)
    }

    /// Adds the figures of an epoch.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn scalars(&mut self, epoch: usize, figures: &[(&str, f64)]) -> Result<()> {
        let values = figures.iter().flat_map(|(tag, value)| {
            let mut data = field(1, tag.as_bytes());
            data.push(2 << 3 | 5);
            data.extend((*value as f32).to_le_bytes());
            field(1, &data)
        });
        let summary = field(5, &values.collect::<Vec<_>>());
        self.write(&event(now(), epoch as u64, &summary))
    }

    fn write(&mut self, data: &[u8]) -> Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(masked(&length).to_le_bytes());
        record.extend(data);
        record.extend(masked(data).to_le_bytes());
        self.file.write_all(&record).map_err(Error::io(&self.path))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0., |d| d.as_secs_f64())
}

/// An event: time (1, double), step (2, int64) and the bytes of its content.
fn event(time: f64, step: u64, content: &[u8]) -> Vec<u8> {
    let mut data = vec![1 << 3 | 1];
    data.extend(time.to_le_bytes());
    data.push(2 << 3);
    varint(step, &mut data);
    data.extend(content);
    data
}

/// A field that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut data = vec![number << 3 | 2];
    varint(bytes.len() as u64, &mut data);
    data.extend(bytes);
    data
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// TFRecord's checksum: CRC-32C (Castagnoli), rotated and shifted, so that it stays meaningful for data that contains checksums.
fn masked(data: &[u8]) -> u32 {
    let crc = !data.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    });
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, appendix B.4: 32 bytes of zeros give 8a9136aa.
        let expected = 0x8a91_36aa_u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(masked(&[0; 32]), expected);
    }

    #[test]
    fn records_are_framed_and_hold_tag_value_and_step() {
        let dir = tempfile::tempdir().unwrap();
        let mut events = Events::start(dir.path()).unwrap();
        events.scalars(300, &[("valid/rmse_px", 1.5)]).unwrap();
        Events::start(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        let bytes = std::fs::read(&events.path).unwrap();
        let (mut at, mut records) = (0, Vec::new());
        while at < bytes.len() {
            let n = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            let data = &bytes[at + 12..at + 12 + n];
            assert_eq!(bytes[at + 12 + n..at + 16 + n], masked(data).to_le_bytes());
            records.push(data.to_vec());
            at += 16 + n;
        }
        assert!(records[0].ends_with(b"brain.Event:2"));
        // After the time: step 300, then a summary of 22 bytes with one value of 20.
        let mut expected = vec![0x10, 0xac, 0x02, 0x2a, 22, 0x0a, 20, 0x0a, 13];
        expected.extend(b"valid/rmse_px");
        expected.extend([0x15, 0, 0, 0xc0, 0x3f]);
        assert_eq!(records[1][9..], expected);
    }
}
