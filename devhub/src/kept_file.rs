//! Files that one devhub leaves for the next, so that what clients were told still holds: certificates
//! and the key.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// A file or directory that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {path}")]
pub struct Error {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Who may read a file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Access {
    Everybody,
    Owner,
}

/// Replaces a file whole, with its permissions from the first byte on. Directories are made as needed.
pub(crate) fn write(path: &Path, text: &str, access: Access) -> Result<(), Error> {
    let replace = || {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(
            &mut options,
            match access {
                Access::Everybody => 0o644,
                Access::Owner => 0o600,
            },
        );
        #[cfg(not(unix))]
        let _ = access;
        options.open(path)?.write_all(text.as_bytes())
    };
    replace().map_err(|source| Error {
        path: path.to_owned(),
        source,
    })
}
