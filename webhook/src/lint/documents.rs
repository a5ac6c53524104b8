//! Which objects stand in which files, and where?

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// One object, or why there is none.
pub(super) struct Document {
    /// `FILE:LINE`, or the file alone where it cannot be read.
    pub(super) place: String,
    pub(super) content: Result<Value, String>,
}

/// All documents of all files, in their order; a folder's files in the order of their names.
pub(super) fn read(files: &[PathBuf]) -> Vec<Document> {
    let mut documents = Vec::new();
    for file in files {
        if file.as_os_str() == "-" {
            let mut text = Vec::new();
            let read = std::io::stdin().lock().read_to_end(&mut text);
            add(
                Path::new("standard input"),
                read.map(|_| text),
                &mut documents,
            );
        } else {
            add_path(file, true, &mut documents);
        }
    }
    documents
}

fn add_path(path: &Path, named: bool, documents: &mut Vec<Document>) {
    if path.is_dir() {
        match std::fs::read_dir(path) {
            Ok(entries) => {
                let mut entries: Vec<PathBuf> =
                    entries.flatten().map(|entry| entry.path()).collect();
                entries.sort();
                for entry in entries {
                    add_path(&entry, false, documents);
                }
            }
            Err(error) => documents.push(unreadable(path, &error)),
        }
        return;
    }
    let is_yaml = path
        .extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| ["yaml", "yml", "json"].contains(&extension));
    // What a folder holds besides, such as a pipe, may never end.
    if named || is_yaml && path.is_file() {
        add(path, std::fs::read(path), documents);
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Document {
    Document {
        place: path.display().to_string(),
        content: Err(format!("cannot be read: {error}")),
    }
}

fn add(path: &Path, text: std::io::Result<Vec<u8>>, documents: &mut Vec<Document>) {
    let text = match text {
        Ok(text) => text,
        Err(error) => {
            documents.push(unreadable(path, &error));
            return;
        }
    };
    let Ok(text) = String::from_utf8(text) else {
        documents.push(Document {
            place: path.display().to_string(),
            content: Err("is not UTF-8".to_owned()),
        });
        return;
    };
    for (line, text) in split(&text) {
        let place = format!("{}:{line}", path.display());
        match serde_saphyr::from_str::<Value>(text) {
            Ok(Value::Null) => {}
            Ok(Value::Object(mut object)) => {
                let is_list = object
                    .get("kind")
                    .and_then(Value::as_str)
                    .is_some_and(|kind| kind.ends_with("List"));
                match object.remove("items") {
                    Some(Value::Array(items)) if is_list => {
                        documents.extend(items.into_iter().map(|item| Document {
                            place: place.clone(),
                            content: Ok(item),
                        }));
                    }
                    items => {
                        if let Some(items) = items {
                            object.insert("items".to_owned(), items);
                        }
                        documents.push(Document {
                            place,
                            content: Ok(Value::Object(object)),
                        });
                    }
                }
            }
            Ok(_) => documents.push(Document {
                place,
                content: Err("is no Kubernetes object".to_owned()),
            }),
            Err(error) => {
                // The parser counts from the document's beginning, and goes on with a picture of the place.
                let before = u64::try_from(line.saturating_sub(1)).unwrap_or_default();
                let options = serde_saphyr::render_options! { line_offset: before };
                let text = error.render_with_options(options);
                let text = text.lines().next().unwrap_or_default();
                let at = error.location().map_or(place, |at| {
                    format!("{}:{}", path.display(), before + at.line())
                });
                documents.push(Document {
                    place: at,
                    content: Err(format!("is no YAML: {text}")),
                });
            }
        }
    }
}

/// The documents of a YAML stream, each from the line on which its first field stands, with that line's number. A line that begins
/// with `---` is a separator wherever it stands (YAML 1.2 section 9.1.2).
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut first_line, mut at) = (0, 1, 0);
    let mut push = |from: usize, to: usize, first_line: usize| {
        let document = text.get(from..to).unwrap_or_default();
        let skipped = document
            .lines()
            .take_while(|line| line.trim().is_empty() || line.starts_with('#'))
            .count();
        let passed: usize = document
            .split_inclusive('\n')
            .take(skipped)
            .map(str::len)
            .sum();
        let document = document.get(passed..).unwrap_or_default();
        if !document.is_empty() {
            documents.push((first_line + skipped, document));
        }
    };
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let is_separator = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        if is_separator {
            push(start, at, first_line);
            start = at + line.len();
            first_line = number + 2;
        }
        at += line.len();
    }
    push(start, at, first_line);
    documents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_split_at_its_separators_and_each_document_knows_its_line() {
        let text = "# a comment\na: 1\n---\n---   # nothing before\n\nb: |\n  ---\n  text\n---\n# only a comment\n---\nc: 3";
        let lines: Vec<usize> = split(text).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [2, 6, 12]);
        assert_eq!(split(""), []);
        assert_eq!(split("a: 1"), [(1, "a: 1")]);
    }
}
