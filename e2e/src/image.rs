//! Image archives without any engine: a layer, a configuration and a manifest in a tar file, as `docker save` writes them.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::programs;
use crate::run::repository;

/// What an image is made of: programs at its root, and how it starts.
pub struct Image<'a> {
    /// Repository and tag, for example `ferrolb/echo:lab`.
    pub name: &'a str,
    pub programs: Vec<PathBuf>,
    pub entrypoint: &'a [&'a str],
    /// A user that is not root, unless the image must start as root.
    pub user: &'a str,
}

const BLOCK: usize = 512;

/// Where the binaries of FerroLB lie after `make build`.
pub fn product_binaries() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| repository().join("target"), PathBuf::from);
    target.join("x86_64-unknown-linux-musl/release")
}

/// FerroLB's image, with the same content that the Containerfile gives it.
pub fn ferrolb(directory: &Path) -> Result<PathBuf> {
    let binaries = product_binaries();
    let mut programs = Vec::new();
    for name in ["ferrolb-operator", "ferrolb-webhook", "ferrolb-speaker"] {
        let path = binaries.join(name);
        if !path.exists() {
            bail!("{} is not there; `make build` makes it", path.display());
        }
        programs.push(path);
    }
    let name = format!("docker.io/ferrolb/ferrolb:{}", env!("CARGO_PKG_VERSION"));
    write(
        &Image {
            name: &name,
            programs,
            entrypoint: &[],
            user: "65532:65532",
        },
        &directory.join("ferrolb.tar"),
    )
}

/// The images that only the lab needs: a sandbox that waits, a server that says who answers.
pub fn helpers(directory: &Path) -> Result<Vec<PathBuf>> {
    let pause = Image {
        name: "docker.io/ferrolb/pause:lab",
        programs: vec![programs::small("pause")?],
        entrypoint: &["/pause"],
        user: "65535:65535",
    };
    let echo = Image {
        name: "docker.io/ferrolb/echo:lab",
        programs: vec![programs::small("echo")?],
        entrypoint: &["/echo"],
        user: "65532:65532",
    };
    Ok(vec![
        write(&pause, &directory.join("pause.tar"))?,
        write(&echo, &directory.join("echo.tar"))?,
    ])
}

/// Writes the archive, byte for byte the same for the same programs.
pub fn write(image: &Image<'_>, archive: &Path) -> Result<PathBuf> {
    let mut layer = Vec::new();
    for program in &image.programs {
        let name = program
            .file_name()
            .context("a program without a name")?
            .to_string_lossy()
            .into_owned();
        let content = fs::read(program).with_context(|| format!("read {}", program.display()))?;
        append(&mut layer, &name, 0o755, &content)?;
    }
    end(&mut layer);
    let layer_digest = format!("{:x}", Sha256::digest(&layer));
    let configuration = serde_json::to_vec(&json!({
        "architecture": "amd64", "os": "linux", "created": "1970-01-01T00:00:00Z",
        "config": {"Entrypoint": image.entrypoint, "User": image.user},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "lab image"}],
    }))?;
    let configuration_name = format!("{:x}.json", Sha256::digest(&configuration));
    let layer_name = format!("{layer_digest}/layer.tar");
    let manifest = serde_json::to_vec(
        &json!([{"Config": configuration_name, "RepoTags": [image.name], "Layers": [layer_name]}]),
    )?;
    let mut all = Vec::with_capacity(layer.len() + 8 * BLOCK);
    append(&mut all, &configuration_name, 0o644, &configuration)?;
    append(&mut all, &layer_name, 0o644, &layer)?;
    append(&mut all, "manifest.json", 0o644, &manifest)?;
    end(&mut all);
    if let Some(parent) = archive.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = BufWriter::new(
        File::create(archive).with_context(|| format!("create {}", archive.display()))?,
    );
    file.write_all(&all)?;
    file.flush()?;
    Ok(archive.to_owned())
}

/// Appends a file in the ustar format (POSIX.1-1988): a header of one block, then the content padded to whole blocks.
fn append(tar: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) -> Result<()> {
    if name.len() > 100 {
        bail!("the name {name} is too long for a ustar header");
    }
    let mut header = Vec::with_capacity(BLOCK);
    header.extend_from_slice(name.as_bytes());
    header.resize(100, 0);
    write!(
        header,
        "{mode:07o}\0{:07o}\0{:07o}\0{:011o}\0{:011o}\0",
        0,
        0,
        content.len(),
        0
    )?;
    let before_checksum = header.len();
    // The checksum is taken with its own field full of blanks.
    header.extend_from_slice(b"        0");
    header.resize(257, 0);
    header.extend_from_slice(b"ustar\x0000");
    header.resize(BLOCK, 0);
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    let checksum = format!("{sum:06o}\0 ");
    for (place, byte) in header
        .iter_mut()
        .skip(before_checksum)
        .zip(checksum.bytes())
    {
        *place = byte;
    }
    tar.extend_from_slice(&header);
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
    Ok(())
}

fn end(tar: &mut Vec<u8>) {
    tar.resize(tar.len() + 2 * BLOCK, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_read_by_tar_and_is_the_same_each_time() {
        let directory = std::env::temp_dir().join(format!("ferrolb-image-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let program = directory.join("hello");
        fs::write(&program, b"not a program").unwrap();
        let image = Image {
            name: "docker.io/ferrolb/hello:lab",
            programs: vec![program],
            entrypoint: &["/hello"],
            user: "1:1",
        };
        let first = fs::read(write(&image, &directory.join("a.tar")).unwrap()).unwrap();
        let archive = write(&image, &directory.join("b.tar")).unwrap();
        assert_eq!(first, fs::read(&archive).unwrap());
        let listed = crate::host::run("tar", &["-tf", archive.to_str().unwrap()]).unwrap();
        assert_eq!(listed.lines().count(), 3);
        assert!(listed.ends_with("manifest.json\n"));
        fs::remove_dir_all(directory).unwrap();
    }
}
