//! Documents that are written from the program, and committed so that they can be read without it.

use std::path::Path;

/// Asserts that the file at `path`, below the root of the repository, holds `text`. With `UPDATE_DOCS=1` in the
/// environment it is written instead.
pub(crate) fn assert_committed(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        let directory = file.parent().expect("the path names a file");
        std::fs::create_dir_all(directory).expect("the directory can be made");
        std::fs::write(&file, text).expect("the file can be written");
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == text,
        "{path} is out of date; run `UPDATE_DOCS=1 cargo test -p hubrelay committed`"
    );
}
