//! Where in a document its reader gave up.
//!
//! `serde_path_to_error` says so too, but wraps every step of every reading for the sake of those that fail: a document of a
//! boot is good, and the wrapping is 27 KB of a guest's init, of which each boot executes a part for the first time.

/// What is open at a place.
enum Open {
    /// An object, and the key in it that was read last.
    Object(Option<String>),
    /// An array, and how many values of it were read.
    Array(usize),
}

/// The path of the value of JSON that ends, or was given up, at `line` and `column`, both as `serde_json` counts them:
/// `volumes[0].disk`, or `.` for the document itself.
pub(super) fn path_at(document: &[u8], line: usize, column: usize) -> String {
    let before: usize =
        document.split_inclusive(|&byte| byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    let read = document.get(..before.saturating_add(column)).unwrap_or(document);
    let mut open = Vec::new();
    let mut bytes = read.iter();
    // A key may come next.
    let mut wants_key = false;
    while let Some(&byte) = bytes.next() {
        match byte {
            b'{' => open.push(Open::Object(None)),
            b'[' => open.push(Open::Array(0)),
            b'}' | b']' => _ = open.pop(),
            b',' => {
                if let Some(Open::Array(index)) = open.last_mut() {
                    *index += 1;
                }
            }
            b'"' => {
                let text = string(&mut bytes);
                if let (true, Some(Open::Object(key))) = (wants_key, open.last_mut()) {
                    *key = Some(text);
                }
            }
            _ => {}
        }
        match byte {
            b'{' | b',' => wants_key = true,
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => wants_key = false,
        }
    }
    path(&open)
}

/// The rest of a string, its escapes as they are: no field of ours has any.
fn string<'a>(bytes: &mut impl Iterator<Item = &'a u8>) -> String {
    let mut text = Vec::new();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' => break,
            b'\\' => text.extend([byte].into_iter().chain(bytes.next().copied())),
            _ => text.push(byte),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn path(open: &[Open]) -> String {
    let mut path = String::new();
    for step in open {
        match step {
            Open::Object(Some(key)) if path.is_empty() => path.push_str(key),
            Open::Object(Some(key)) => path = format!("{path}.{key}"),
            Open::Object(None) => {}
            Open::Array(index) => path = format!("{path}[{index}]"),
        }
    }
    if path.is_empty() { ".".to_owned() } else { path }
}

#[cfg(test)]
mod tests {
    use super::super::{BootSpec, tests::minimal};
    use super::*;

    /// What the library says of the same document.
    fn by_the_library(document: &[u8]) -> String {
        let mut reader = serde_json::Deserializer::from_slice(document);
        let read: Result<BootSpec, _> = serde_path_to_error::deserialize(&mut reader);
        read.unwrap_err().path().to_string()
    }

    fn by_us(document: &[u8]) -> String {
        let error = serde_json::from_slice::<BootSpec>(document).unwrap_err();
        path_at(document, error.line(), error.column())
    }

    #[test]
    fn a_place_has_the_name_that_the_library_gives_it() {
        let volume = |field: &str, value: serde_json::Value| {
            let mut volume = serde_json::json!({
                "disk": { "serial": "v", "file_system": "ext4" }, "target": "/v",
            });
            volume[field] = value;
            serde_json::json!([{ "disk": { "serial": "u", "file_system": "ext4" }, "target": "/u" }, volume])
        };
        let cases: [(&str, &str, serde_json::Value); 11] = [
            ("", "version", "one".into()),
            ("", "version", (-1).into()),
            ("", "novelty", true.into()),
            ("", "hostname", serde_json::json!({})),
            ("", "volumes", volume("disk", serde_json::json!({ "serial": "v", "file_system": "ext9" }))),
            ("", "volumes", volume("disk", serde_json::json!({ "file_system": "ext4" }))),
            ("", "volumes", volume("mode", "rx".into())),
            ("", "volumes", "none".into()),
            ("/program", "argv", serde_json::json!(["a, {\"b\"", 7])),
            ("/program", "shell", serde_json::json!([1, 2])),
            ("/root", "source", serde_json::json!({ "disk": { "serial": 3, "file_system": "ext4" } })),
        ];
        for (parent, key, value) in cases {
            let mut document = minimal();
            document.pointer_mut(parent).unwrap()[key] = value;
            for text in [document.to_string(), serde_json::to_string_pretty(&document).unwrap()] {
                assert_eq!(by_us(text.as_bytes()), by_the_library(text.as_bytes()), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_json_has_a_place_too() {
        for text in
            ["", "{", "[[", "\"", "{\"a", "{\"a\\", "}]", "{\"volumes\": [{\"disk\": {\"serial\": \"v\"}}, {"]
        {
            let whole = path_at(text.as_bytes(), 1, text.len());
            assert_eq!(path_at(text.as_bytes(), 1, usize::MAX), whole);
        }
        let cut = b"{\"volumes\": [{\"target\": \"/a\"},\n {\"disk\": {";
        assert_eq!(path_at(cut, 2, 12), "volumes[1].disk");
    }
}
