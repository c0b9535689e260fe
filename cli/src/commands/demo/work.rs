//! The work of the demo: real, small, and with a bug in one place.

use std::{
    collections::HashSet,
    fs,
    io::{self, Cursor},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use image::{ImageFormat, imageops::FilterType};
use leveret::Task;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::stage::{PICTURES, TEXT};

/// Counts the words of text files.
#[derive(Clone, Debug, Serialize, Deserialize, Task)]
#[task(name = "demo.words", queue = "leveret-demo-text")]
pub(super) struct Words {
    pub(super) files: Vec<PathBuf>,
    /// Its first attempt fails, as if the disk were busy.
    #[serde(default)]
    pub(super) fail_first: bool,
    /// Tells tasks of clients apart that cannot set a message id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ticket: Option<String>,
}

/// Hashes text files, and then the hash again and again, as one does to store a password.
#[derive(Clone, Debug, Serialize, Deserialize, Task)]
#[task(name = "demo.hash", queue = "leveret-demo-text")]
pub(super) struct Hash {
    pub(super) files: Vec<PathBuf>,
    pub(super) rounds: u32,
}

/// The mean number of words in some files. It divides by their number, even when that is zero: it always panics then.
#[derive(Clone, Debug, Serialize, Deserialize, Task)]
#[task(name = "demo.average", queue = "leveret-demo-text")]
pub(super) struct Average {
    pub(super) files: Vec<PathBuf>,
}

/// The task whose body is a picture, to be made small.
pub(super) const THUMBNAIL: &str = "demo.thumbnail";

/// The result of any of them: what came of it, and who did it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Finished {
    pub(super) worker: String,
    /// Whether the broker had given the task to a worker before that did not come to its end.
    pub(super) redelivered: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ticket: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) words: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) hashed_bytes: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) thumbnails: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The pictures that come with the binary.
pub(super) const PICTURES_SHIPPED: [(&str, &[u8]); 6] = [
    ("cells", include_bytes!("../../../../examples/pictures/cells.png")),
    ("dunes", include_bytes!("../../../../examples/pictures/dunes.png")),
    ("julia", include_bytes!("../../../../examples/pictures/julia.png")),
    ("leveret", include_bytes!("../../../../examples/pictures/leveret.png")),
    ("waves", include_bytes!("../../../../examples/pictures/waves.png")),
    ("weave", include_bytes!("../../../../examples/pictures/weave.png")),
];

/// The texts that come with the binary, for a folder that has none.
const TEXTS_SHIPPED: [(&str, &str); 2] = [
    ("ARCHITECTURE.md", include_str!("../../../../ARCHITECTURE.md")),
    ("protocol.md", include_str!("../../../../docs/protocol.md")),
];

/// The queues and the tasks in each, so that a table of them cannot disagree with the tasks.
pub(super) const QUEUES: [(&str, usize); 2] = [(TEXT, 2), (PICTURES, 1)];

/// How many words the files have, and how many different ones.
pub(super) fn count_words(files: &[PathBuf]) -> io::Result<(u64, usize)> {
    let mut count = 0;
    let mut different = HashSet::new();
    for file in files {
        let text = fs::read_to_string(file)?;
        for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            count += 1;
            different.insert(word.to_lowercase());
        }
    }
    Ok((count, different.len()))
}

/// The SHA-256 of the files, hashed `rounds` times more, and how many bytes they had.
pub(super) fn hash(files: &[PathBuf], rounds: u32) -> io::Result<(String, u64)> {
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    for file in files {
        let content = fs::read(file)?;
        bytes += content.len() as u64;
        hasher.update(content);
    }
    let mut digest = hasher.finalize();
    for _ in 0..rounds {
        digest = Sha256::digest(digest);
    }
    Ok((format!("{digest:x}"), bytes))
}

/// How many rounds of [`hash`] this machine does in a millisecond.
pub(super) fn rounds_per_ms() -> io::Result<u32> {
    const SAMPLE: u32 = 5_000;
    let begun = Instant::now();
    hash(&[], SAMPLE)?;
    let each = u128::from(SAMPLE) * 1_000 / begun.elapsed().as_micros().max(1);
    Ok(u32::try_from(each).unwrap_or(u32::MAX).max(1))
}

/// The mean number of words. Without files it divides by zero.
pub(super) fn average_words(files: &[PathBuf]) -> io::Result<u64> {
    Ok(count_words(files)?.0 / files.len() as u64)
}

/// The picture at a width of 96, as PNG.
pub(super) fn thumbnail(picture: &[u8]) -> image::ImageResult<Bytes> {
    let picture = image::load_from_memory_with_format(picture, ImageFormat::Png)?;
    let small = picture.resize(96, 96, FilterType::Lanczos3);
    let mut png = Cursor::new(Vec::new());
    small.write_to(&mut png, ImageFormat::Png)?;
    Ok(png.into_inner().into())
}

/// The text files under `folder`, at most 300; those that come with the binary, written to `spare`, when there are
/// none.
pub(super) fn text_files(folder: &Path, spare: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.canonicalize()?];
    // Breadth first, and never for long: the folder may be the root of a disk.
    let mut looked = 0;
    while let Some(folder) = (!folders.is_empty()).then(|| folders.remove(0)) {
        // A folder that may not be read has no files for us.
        let mut entries: Vec<_> = fs::read_dir(&folder).into_iter().flatten().flatten().collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, name) = (entry.path(), entry.file_name());
            let skipped = [".", "target", "node_modules"];
            looked += 1;
            if looked > 20_000 || found.len() >= 300 {
                return Ok(found);
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => {
                    let worth = !skipped.iter().any(|skipped| name.to_string_lossy().starts_with(skipped));
                    folders.extend(worth.then_some(path));
                }
                Ok(kind) if kind.is_file() && is_text(&path) => found.push(path),
                _ => {}
            }
        }
    }
    if found.is_empty() {
        for (name, text) in TEXTS_SHIPPED {
            let path = spare.join(name);
            fs::write(&path, text)?;
            found.push(path);
        }
    }
    Ok(found)
}

fn is_text(path: &Path) -> bool {
    const ENDINGS: [&str; 14] =
        ["md", "txt", "rs", "toml", "py", "js", "mjs", "sh", "json", "yml", "yaml", "html", "css", "conf"];
    let named = path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| ENDINGS.contains(&ending));
    named
        && fs::metadata(path).is_ok_and(|meta| (1..=256 << 10).contains(&meta.len()))
        && fs::read(path).is_ok_and(|content| std::str::from_utf8(&content).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_picture_that_is_shipped_has_a_thumbnail() {
        for (name, picture) in PICTURES_SHIPPED {
            let small = image::load_from_memory(&thumbnail(picture).unwrap()).unwrap();
            assert_eq!((small.width(), small.height()), (96, 72), "{name}");
        }
    }

    #[test]
    fn a_folder_without_texts_gets_those_of_the_binary() {
        let (empty, spare) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = text_files(empty.path(), spare.path()).unwrap();
        assert_eq!(files.len(), TEXTS_SHIPPED.len());
        assert!(count_words(&files).unwrap().0 > 1_000);
        fs::write(empty.path().join("a.md"), "one two One").unwrap();
        let own = text_files(empty.path(), spare.path()).unwrap();
        assert_eq!(count_words(&own).unwrap(), (3, 2));
    }
}
