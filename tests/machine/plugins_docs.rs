//! The stubs and the manual in `docs/plugins/` are what the program would write. After a change of the API,
//! `LANRAGE_UPDATE_DOCS=1 cargo test --test machine plugins_docs` writes them anew.

use lanrage::plugin::stubs::{manual, stubs};
use std::path::PathBuf;

#[test]
fn the_pages_and_stubs_are_those_of_the_program() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/plugins");
    let files = stubs().into_iter().map(|(name, text)| (root.join("stubs").join(name), text));
    let update = std::env::var_os("LANRAGE_UPDATE_DOCS").is_some();
    let mut stale = Vec::new();
    for (path, text) in files.chain([(root.join("api.md"), manual())]) {
        if update {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(&path, &text).expect("writing");
        }
        if std::fs::read_to_string(&path).ok().as_deref() != Some(&text) {
            stale.push(path.display().to_string());
        }
    }
    assert!(
        stale.is_empty(),
        "not what the program makes: {stale:?}; run this test with LANRAGE_UPDATE_DOCS=1"
    );
}
