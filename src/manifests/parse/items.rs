//! Cuts a list (`kind: List`, as `kubectl get -o yaml` prints it) into documents of its items.
//!
//! Must not know: what the items are. A list in block style is cut by its lines, so that one
//! broken item hurts no other and each keeps its line; JSON is cut by its own parser; anything
//! else is read as a whole and written out again.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{documents::newlines, fault::Fault, read};
use crate::manifests::kinds::{List, tree::Tree};

/// Calls `each` with the text of each item and the number of lines before it, until it returns
/// false.
pub(super) fn each(text: &str, mut each: impl FnMut(&str, usize) -> bool) -> Result<(), Fault> {
    if let Some(block) = block(text) {
        for (item, lines_before) in block {
            if !each(&item, lines_before) {
                break;
            }
        }
        return Ok(());
    }
    if let Ok(list) = serde_json::from_str::<JsonList<'_>>(text) {
        for item in list.items.unwrap_or_default() {
            // The item is a part of the text.
            let offset = item.get().as_ptr().addr() - text.as_ptr().addr();
            let lines_before = newlines(text.as_bytes().get(..offset).unwrap_or_default());
            if !each(item.get(), lines_before) {
                break;
            }
        }
        return Ok(());
    }
    let list: AnyList = read::untracked(text)?;
    for Tree(item) in &list.items {
        let item = serde_json::to_string(item).map_err(Fault::from)?;
        if !each(&item, 0) {
            break;
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct JsonList<'a> {
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct AnyList {
    #[serde(default)]
    items: List<Tree>,
}

/// The items of a list in block style; `None` when it is in no such style.
fn block(text: &str) -> Option<impl Iterator<Item = (String, usize)>> {
    let mut lines = text.split_inclusive('\n').enumerate();
    lines.find(|(_, line)| content(line) == Some("items:"))?;
    let mut lines = lines.skip_while(|(_, line)| content(line.trim_start()).is_none()).peekable();
    let first = lines.peek()?.1;
    let indent = first.len() - first.trim_start_matches(' ').len();
    if !is_dash(first, indent) {
        return None;
    }
    let mut ended = false;
    let items = std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let (number, first) = lines.next()?;
        let after_dash = &first[indent + 1..];
        let dedent = indent + 1 + after_dash.len() - after_dash.trim_start_matches(' ').len();
        let mut item = first.get(dedent..).unwrap_or_default().to_owned();
        while let Some((_, line)) = lines.next_if(|(_, line)| !is_dash(line, indent)) {
            let spaces = line.len() - line.trim_start_matches(' ').len();
            if spaces <= indent && content(line.trim_start()).is_some() {
                ended = true;
                break;
            }
            item.push_str(&line[spaces.min(dedent)..]);
        }
        Some((item, number))
    });
    Some(items)
}

/// A line without its comment; `None` when that leaves nothing.
fn content(line: &str) -> Option<&str> {
    let line = line.trim_end();
    let line = line.split_once(" #").map_or(line, |(before, _)| before.trim_end());
    (!line.is_empty() && !line.starts_with('#')).then_some(line)
}

/// True for a line that starts an item.
fn is_dash(line: &str, indent: usize) -> bool {
    let Some((spaces, rest)) = line.split_at_checked(indent) else { return false };
    spaces.bytes().all(|byte| byte == b' ')
        && rest.strip_prefix('-').is_some_and(|rest| rest.starts_with([' ', '\r', '\n']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, usize)]) {
        let mut found = Vec::new();
        let result = each(text, |item, line| {
            found.push((item.to_owned(), line));
            true
        });
        result.unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
        let found: Vec<_> = found.iter().map(|(item, line)| (item.as_str(), *line)).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn a_list_in_block_style_is_cut_by_its_lines() {
        check(
            "apiVersion: v1\nitems:\n- a: 1\n  b:\n  - c\n- a: |\n    - x\n\n    y\nkind: List\n",
            &[("a: 1\nb:\n- c\n", 2), ("a: |\n  - x\n\n  y\n", 5)],
        );
        check(
            "kind: List\nitems: # two\n\n  # first\n  -   a: 1\n      b: 2\n  - a: 3\n",
            &[("a: 1\nb: 2\n", 4), ("a: 3\n", 6)],
        );
        check("items:\r\n-\r\n  a: 1\r\n", &[("\r\n a: 1\r\n", 1)]);
    }

    #[test]
    fn other_styles_are_cut_too() {
        check("{\"items\":[{\"a\":1},\n{\"b\":2}]}", &[("{\"a\":1}", 0), ("{\"b\":2}", 1)]);
        check("{items: [{a: 1}, {b: [c]}]}", &[("{\"a\":1}", 0), ("{\"b\":[\"c\"]}", 0)]);
        check("items: []\n", &[]);
        check("items:\nkind: List\n", &[]);
        check("items: null\n", &[]);
        check("{\"items\":null}", &[]);
        check("kind: List\n", &[]);
    }
}
