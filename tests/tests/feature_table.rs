//! `docs/features.md` names a test for everything that it claims, and that test is there. Links in the documents lead
//! somewhere.

#![expect(clippy::panic, reason = "a test reports by failing")]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

/// Whether the file has a test of this name: a function, or one that a macro of the file makes from it.
fn has_test(file: &str, name: &str) -> bool {
    let path = root().join(file);
    path.is_file() && {
        let text = read(path);
        let function = format!("fn {name}(");
        let functions = text.match_indices(&function).map(|(at, _)| at);
        let marked = |at: usize| text[..at].lines().rev().take(3).any(|line| line.trim_start().starts_with("#["));
        { functions }.any(marked) || text.contains(&format!("\n    {name}: ["))
    }
}

#[test]
fn every_claim_names_a_test_that_is_there() {
    let document = read(root().join("docs/features.md"));
    let rows: Vec<Vec<&str>> = document
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| feature") && !line.starts_with("| XXL-JOB"))
        // What the words mean has two columns.
        .filter(|line| line.matches('|').count() > 3)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let mut proven = 0;
    for row in &rows {
        let [feature, ours, proof, others @ ..] = row.as_slice() else { panic!("{row:?}") };
        for cell in others {
            let begins = |word: &&str| cell.starts_with(*word);
            assert!(["yes", "paid", "in part", "–", "?"].iter().any(begins), "{feature}: {cell:?}");
        }
        if ours.starts_with("not yet") || *ours == "–" {
            assert_eq!(*proof, "–", "{feature}");
            continue;
        }
        assert!(ours.starts_with("yes") || ours.starts_with("in part"), "{feature}: {ours}");
        let names: Vec<_> = proof.split("<br>").map(|name| name.trim().trim_matches('`')).collect();
        for name in names {
            let Some((file, function)) = name.split_once("::") else { panic!("{feature}: {name:?} is no test") };
            assert!(has_test(file, function), "{feature}: there is no test {name}");
            proven += 1;
        }
    }
    assert!(rows.len() > 50 && proven > 50, "{} rows, {proven} tests", rows.len());
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let mut documents = vec![root().join("README.md"), root().join("ARCHITECTURE.md"), root().join("CONTRIBUTING.md")];
    for folder in ["docs", "docs/traps"] {
        let entries = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        documents.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    for document in &documents {
        let text = read(document);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
        for link in links.filter(|link| !link.contains("://") && !link.contains(' ')) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { document.clone() } else { document.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link} leads nowhere", document.display());
            if !heading.is_empty() && target.extension().is_some_and(|extension| extension == "md") {
                let headings: Vec<_> = read(&target).lines().filter(|line| line.starts_with('#')).map(anchor).collect();
                assert!(headings.iter().any(|found| found == heading), "{}: {link}: {headings:?}", document.display());
            }
        }
    }
}

/// What a heading is called in a link.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.trim_start_matches('#').trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}
