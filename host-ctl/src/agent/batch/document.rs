//! A batch as JSON: an array of operations.
//!
//! Unknown operations and fields are refused, and every error names the operation by its place and id.

use std::collections::BTreeMap;

use firstlight_protocol::message::batch::{Command, Item, MAX_ITEMS, MAX_OUTPUT, Operation};
use firstlight_protocol::message::events::EventsRequest;
use firstlight_protocol::message::file::{
    FileListRequest, FileStatRequest, MakeDirRequest, Place, RemoveRequest, RenameRequest,
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Bytes kept of each of a command's streams, unless it says otherwise.
const DEFAULT_OUTPUT: u32 = 64 * 1024;

/// The text is no batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It is no JSON, or no array of objects.
    #[error("a batch is a JSON array of objects: {0}")]
    Shape(String),
    /// It has more operations than an agent takes.
    #[error("{0} operations are over the limit of {MAX_ITEMS}; send several batches")]
    TooMany(usize),
    /// An operation is not one.
    #[error("operation {place}{}: {reason}", .id.as_ref().map(|id| format!(" ({id:?})")).unwrap_or_default())]
    Operation {
        /// Its place, from 1.
        place: usize,
        /// Its id, where it has one.
        id: Option<String>,
        /// What is wrong with it.
        reason: String,
    },
    /// Two operations have one id.
    #[error("operations {first} and {second} are both called {id:?}")]
    Twice {
        /// The place of the first, from 1.
        first: usize,
        /// The place of the second.
        second: usize,
        /// What both are called.
        id: String,
    },
}

/// The `op` of an operation, and what belongs to it. Variants have braces although some are empty: serde refuses unknown
/// fields of no others.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
enum Op {
    Ping {
        #[serde(default)]
        data: String,
    },
    Status {},
    Events {
        #[serde(default)]
        from_seq: u64,
    },
    Exec {
        argv: Vec<String>,
        #[serde(default)]
        env: BTreeMap<String, String>,
        cwd: Option<String>,
        user: Option<String>,
        #[serde(default = "default_output")]
        max_output: u32,
    },
    Stats {},
    Network {},
    Versions {},
    Health {
        #[serde(default)]
        decided: bool,
    },
    Stat {
        path: String,
        #[serde(default = "root")]
        root: String,
        #[serde(default)]
        follow: bool,
    },
    Ls {
        path: String,
        #[serde(default = "root")]
        root: String,
    },
    Mkdir {
        path: String,
        #[serde(default = "root")]
        root: String,
        #[serde(default)]
        parents: bool,
        #[serde(default = "default_mode")]
        mode: String,
    },
    Rm {
        path: String,
        #[serde(default = "root")]
        root: String,
        #[serde(default)]
        recursive: bool,
        #[serde(default)]
        ignore_missing: bool,
    },
    Mv {
        from: String,
        to: String,
        #[serde(default = "root")]
        root: String,
        #[serde(default)]
        keep_existing: bool,
    },
}

fn default_output() -> u32 {
    DEFAULT_OUTPUT
}

fn root() -> String {
    "/".into()
}

fn default_mode() -> String {
    "0755".into()
}

fn place(root: String, path: String) -> Place {
    Place { root: root.into_bytes(), path: path.into_bytes() }
}

/// JSON has no octal numbers, so a mode is a string, as `chmod` takes it.
fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| format!("mode {text:?} is none; write it in octal like \"0755\""))
}

impl Op {
    fn operation(self) -> Result<Operation, String> {
        Ok(match self {
            Op::Ping { data } => Operation::Ping(data.into_bytes()),
            Op::Status {} => Operation::Status,
            Op::Events { from_seq } => Operation::Events(EventsRequest { from_seq }),
            Op::Exec { argv, .. } if argv.is_empty() => return Err("argv is empty".into()),
            Op::Exec { max_output, .. } if max_output > MAX_OUTPUT => {
                return Err(format!("max_output is over the limit of {MAX_OUTPUT}"));
            }
            Op::Exec { argv, env, cwd, user, max_output } => Operation::Exec(Command {
                argv: argv.into_iter().map(String::into_bytes).collect(),
                env: env.into_iter().map(|(name, value)| (name.into_bytes(), value.into_bytes())).collect(),
                cwd: cwd.map(String::into_bytes),
                user,
                max_output,
            }),
            Op::Stats {} => Operation::Stats,
            Op::Network {} => Operation::Network,
            Op::Versions {} => Operation::Versions,
            Op::Health { decided } => Operation::Health { decided },
            Op::Stat { path, root, follow } => {
                Operation::Stat(FileStatRequest { place: place(root, path), follow })
            }
            Op::Ls { path, root } => {
                Operation::List(FileListRequest { place: place(root, path), after: None })
            }
            Op::Mkdir { path, root, parents, mode: text } => {
                Operation::MakeDir(MakeDirRequest { place: place(root, path), parents, mode: mode(&text)? })
            }
            Op::Rm { path, root, recursive, ignore_missing } => {
                Operation::Remove(RemoveRequest { place: place(root, path), recursive, ignore_missing })
            }
            Op::Mv { from, to, root, keep_existing } => Operation::Rename(RenameRequest {
                from: place(root, from),
                to: to.into_bytes(),
                keep_existing,
            }),
        })
    }
}

/// Reads a batch. An operation without an id is called by its place, from 1.
///
/// # Errors
/// [`DocumentError`]
pub fn parse(text: &str) -> Result<Vec<Item>, DocumentError> {
    let objects: Vec<Map<String, Value>> =
        serde_json::from_str(text).map_err(|error| DocumentError::Shape(error.to_string()))?;
    if objects.len() > MAX_ITEMS {
        return Err(DocumentError::TooMany(objects.len()));
    }
    let mut places = BTreeMap::new();
    let mut items = Vec::new();
    for (object, place) in objects.into_iter().zip(1..) {
        let item = item(object, place)?;
        if let Some(first) = places.insert(item.id.clone(), place) {
            return Err(DocumentError::Twice { first, second: place, id: item.id });
        }
        items.push(item);
    }
    Ok(items)
}

fn item(mut object: Map<String, Value>, place: usize) -> Result<Item, DocumentError> {
    let id = object.remove("id");
    let known = id.as_ref().and_then(Value::as_str).map(str::to_owned);
    let error = |reason: String| DocumentError::Operation { place, id: known.clone(), reason };
    let id = match (&id, &known) {
        (None, _) => place.to_string(),
        (Some(_), Some(id)) => id.clone(),
        (Some(_), None) => return Err(error("id is no string".into())),
    };
    let timeout_ms = object.remove("timeout_ms").map(serde_json::from_value).transpose();
    let timeout_ms = timeout_ms.map_err(|cause| error(format!("timeout_ms: {cause}")))?;
    let op: Op = serde_json::from_value(Value::Object(object)).map_err(|cause| error(cause.to_string()))?;
    Ok(Item { id, timeout_ms, operation: op.operation().map_err(error)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn operations_come_with_their_ids_and_timeouts() {
        let text =
            r#"[{"op":"status"}, {"id":"x","timeout_ms":50,"op":"exec","argv":["id","-u"],"env":{"A":"b"}}]"#;
        let items = parse(text).unwrap();
        assert_eq!(items[0], Item { id: "1".into(), timeout_ms: None, operation: Operation::Status });
        let command = Command {
            argv: vec![b"id".to_vec(), b"-u".to_vec()],
            env: vec![(b"A".to_vec(), b"b".to_vec())],
            cwd: None,
            user: None,
            max_output: DEFAULT_OUTPUT,
        };
        let expected = Item { id: "x".into(), timeout_ms: Some(50), operation: Operation::Exec(command) };
        assert_eq!(items[1], expected);
        assert_eq!(parse("[]"), Ok(vec![]));
    }

    #[test]
    fn every_operation_can_be_written() {
        let text = r#"[{"op":"ping","data":"x"},{"op":"status"},{"op":"events","from_seq":3},{"op":"exec","argv":["a"]},
                      {"op":"stats"},{"op":"network"},{"op":"versions"},{"op":"health","decided":true},
                      {"op":"stat","path":"/a"},{"op":"ls","path":"/"},{"op":"mkdir","path":"/b","mode":"0700"},
                      {"op":"rm","path":"/c","recursive":true},{"op":"mv","from":"/d","to":"/e","root":"/r"}]"#;
        let items = parse(text).unwrap();
        assert_eq!(items.len(), 13);
        let place = Place::new("/b");
        let mkdir = Operation::MakeDir(MakeDirRequest { place, parents: false, mode: 0o700 });
        assert_eq!(items[10].operation, mkdir);
    }

    #[test]
    fn an_error_names_the_operation_and_what_is_wrong_with_it() {
        assert_eq!(
            error(r#"[{"op":"status"},{"id":"b","op":"status","pth":"/"}]"#),
            "operation 2 (\"b\"): unknown field `pth`, there are no fields"
        );
        assert!(
            error(r#"[{"op":"exec","argv":["x"],"shell":true}]"#)
                .starts_with("operation 1: unknown field `shell`")
        );
        assert_eq!(error(r#"[{"op":"exec","argv":[]}]"#), "operation 1: argv is empty");
        assert!(error(r#"[{"op":"mkdir","path":"/a","mode":"rwx"}]"#).contains("in octal like \"0755\""));
        assert_eq!(error(r#"[{"op":"exec"}]"#), "operation 1: missing field `argv`");
        assert!(error(r#"[{"op":"status","timeout_ms":-1}]"#).starts_with("operation 1: timeout_ms: "));
        assert_eq!(error(r#"[{"op":"status","id":7}]"#), "operation 1: id is no string");
        assert!(error(r#"{"op":"status"}"#).starts_with("a batch is a JSON array of objects"));
    }

    #[test]
    fn what_may_not_be_in_a_batch_is_no_operation_of_it() {
        for op in ["batch", "shutdown", "forward"] {
            let error = error(&format!(r#"[{{"op":"{op}"}}]"#));
            assert!(error.starts_with(&format!("operation 1: unknown variant `{op}`")), "{error}");
        }
    }

    #[test]
    fn ids_are_there_once_and_operations_are_bounded() {
        let twice = error(r#"[{"id":"2","op":"status"},{"op":"status"}]"#);
        assert_eq!(twice, "operations 1 and 2 are both called \"2\"");
        let many = format!("[{}]", vec![r#"{"op":"status"}"#; MAX_ITEMS + 1].join(","));
        assert_eq!(parse(&many), Err(DocumentError::TooMany(MAX_ITEMS + 1)));
    }
}
