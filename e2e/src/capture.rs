//! What was on the wire, and when: tcpdump on an interface of some machine, read back while it runs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};

use crate::frames::{Mac, Message};
use crate::host;
use crate::run::Run;

/// Everything that neighbours say to each other.
pub const NEIGHBOURS: &str = "arp or icmp6";

/// A capture that runs until it is dropped.
pub struct Capture {
    tcpdump: Child,
    file: PathBuf,
}

/// One captured frame with the kernel's time of it.
#[derive(Clone, Debug)]
pub struct Captured {
    pub at: SystemTime,
    pub bytes: Vec<u8>,
}

/// One captured message between neighbours.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    pub at: SystemTime,
    pub message: Message,
}

impl Capture {
    /// Starts tcpdump and returns when it listens. `expression` is what tcpdump takes.
    pub fn start(run: &Run, place: &str, interface: &str, expression: &str) -> Result<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file = run
            .directory
            .join(format!("{place}-{interface}-{number}.pcap"));
        let mut tcpdump = Command::new("nsenter")
            .arg(format!("--net=/var/run/netns/{}", run.namespace(place)))
            .args(["tcpdump", "-n", "-U", "--immediate-mode", "--nano", "-i"])
            // 32 MiB of the kernel's memory, so that a storm of frames is kept.
            .args([interface, "-B", "32768", "-Z", "root", "-w"])
            .arg(&file)
            .arg(expression)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start tcpdump")?;
        let said = tcpdump
            .stderr
            .take()
            .context("tcpdump has no error output")?;
        let mut said = BufReader::new(said);
        let mut all = String::new();
        while !all.contains("listening on") {
            let mut line = String::new();
            ensure!(said.read_line(&mut line)? > 0, "tcpdump ended: {all}");
            all.push_str(&line);
        }
        Ok(Self { tcpdump, file })
    }

    /// A capture of what neighbours say to all and to the asker, on its interface.
    pub fn of_neighbours(run: &Run) -> Result<Self> {
        Self::start(run, crate::plan::ASKER.name, "eth0", NEIGHBOURS)
    }

    /// Every frame so far.
    pub fn frames(&self) -> Result<Vec<Captured>> {
        read(&fs::read(&self.file).with_context(|| format!("read {}", self.file.display()))?)
    }

    /// Every message between neighbours so far.
    pub fn heard(&self) -> Result<Vec<Heard>> {
        let frames = self.frames()?;
        let heard = frames.iter().filter_map(|frame| {
            Some(Heard {
                at: frame.at,
                message: Message::read(&frame.bytes)?,
            })
        });
        Ok(heard.collect())
    }

    /// Waits until a message that is looked for was heard, and returns the first.
    pub fn wait(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Heard) -> bool,
    ) -> Result<Heard> {
        let mut found = None;
        host::wait_until(what, limit, || {
            found = self.heard()?.into_iter().find(&wanted);
            Ok(found.is_some())
        })?;
        found.context("nothing was heard")
    }

    /// Ends the capture and returns every message.
    pub fn finish(self) -> Result<Vec<Heard>> {
        self.heard()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // It may have ended by itself; what it wrote is of no use any more.
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
        let _ = fs::remove_file(&self.file);
    }
}

/// Who told one who asked that it has this address, in order.
pub fn answers(heard: &[Heard], address: IpAddr) -> Vec<(SystemTime, Mac)> {
    moments(heard, |message| message.answers_for(address))
}

/// Who told everybody unasked that it has this address, in order.
pub fn claims(heard: &[Heard], address: IpAddr) -> Vec<(SystemTime, Mac)> {
    moments(heard, |message| message.claims(address))
}

fn moments(heard: &[Heard], wanted: impl Fn(&Message) -> bool) -> Vec<(SystemTime, Mac)> {
    heard
        .iter()
        .filter(|h| wanted(&h.message))
        .map(|h| (h.at, h.message.from()))
        .collect()
}

/// Reads a file of libpcap's format with nanoseconds, in this machine's byte order. A frame that is not whole yet is left
/// out: tcpdump still writes.
fn read(bytes: &[u8]) -> Result<Vec<Captured>> {
    const MAGIC_OF_NANOSECONDS: u32 = 0xa1b2_3c4d;
    const FILE_HEADER: usize = 24;
    const FRAME_HEADER: usize = 16;
    let word = |at: usize| {
        let four = bytes.get(at..at + 4)?;
        Some(u32::from_ne_bytes(four.try_into().ok()?))
    };
    let mut frames = Vec::new();
    if bytes.len() < FILE_HEADER {
        return Ok(frames);
    }
    ensure!(
        word(0) == Some(MAGIC_OF_NANOSECONDS),
        "tcpdump wrote another format"
    );
    let mut at = FILE_HEADER;
    while let (Some(seconds), Some(nanoseconds), Some(length)) =
        (word(at), word(at + 4), word(at + 8))
    {
        let start = at + FRAME_HEADER;
        let end = start + usize::try_from(length)?;
        let Some(frame) = bytes.get(start..end) else {
            break;
        };
        frames.push(Captured {
            at: SystemTime::UNIX_EPOCH + Duration::new(seconds.into(), nanoseconds),
            bytes: frame.to_vec(),
        });
        at = end;
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_is_not_whole_yet_is_left_out() {
        let mut bytes = 0xa1b2_3c4d_u32.to_ne_bytes().to_vec();
        bytes.resize(24, 0);
        for word in [7_u32, 5, 3, 3] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend([1, 2]);
        assert!(read(&bytes).unwrap().is_empty());
        bytes.push(3);
        let frames = read(&bytes).unwrap();
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].bytes, [1, 2, 3]);
        assert_eq!(frames[0].at, SystemTime::UNIX_EPOCH + Duration::new(7, 5));
    }

    #[test]
    fn another_format_is_refused() {
        assert!(read(&[0; 24]).is_err());
    }
}
