//! Reads XML files as small trees: as much as the label formats CVAT and dlib need. Out: the root element; each element knows its line.

use crate::error::{Error, Result};
use quick_xml::events::{BytesStart, Event};
use quick_xml::Reader;
use std::path::Path;

/// An element.
#[derive(Clone, Debug, Default)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) line: usize,
    attributes: Vec<(String, String)>,
    pub(super) children: Vec<Element>,
    pub(super) text: String,
}

/// No label file is nested deeper than this; such a file would only take memory.
const DEEPEST: usize = 64;

/// Reads a file's text.
///
/// # Errors
/// Text that is not XML; the message names the line.
pub(super) fn parse(path: &Path, text: &str) -> Result<Element> {
    let line = |at: u64| 1 + text.as_bytes()[..(at as usize).min(text.len())].iter().filter(|b| **b == b'\n').count();
    let bad = |at: u64, what: String| Error::Data(format!("{}: line {}: {what}", path.display(), line(at)));
    let mut reader = Reader::from_str(text);
    let mut open = vec![Element::default()];
    loop {
        let at = reader.buffer_position();
        let event = reader.read_event().map_err(|e| bad(reader.error_position(), format!("expected XML: {e}")))?;
        match event {
            Event::Start(tag) => {
                if open.len() > DEEPEST {
                    return Err(bad(at, format!("expected at most {DEEPEST} elements in one another")));
                }
                open.push(element(&tag, line(at)).map_err(|e| bad(at, e))?);
            }
            Event::Empty(tag) => {
                let child = element(&tag, line(at)).map_err(|e| bad(at, e))?;
                open.last_mut().expect("the root is never closed").children.push(child);
            }
            Event::End(_) => {
                // The reader has checked that every end tag closes an open element.
                let mut child = open.pop().expect("an open element");
                child.text = child.text.trim().to_string();
                open.last_mut().expect("the root is never closed").children.push(child);
            }
            Event::Text(text) => open.last_mut().expect("the root").text.push_str(&text.xml10_content()),
            Event::CData(text) => open.last_mut().expect("the root").text.push_str(&text.xml10_content()),
            Event::GeneralRef(name) => {
                let escaped = format!("&{};", name.xml10_content());
                let text = quick_xml::escape::unescape(&escaped).map_err(|e| bad(at, format!("expected XML: {e}")))?;
                open.last_mut().expect("the root").text.push_str(&text);
            }
            Event::Eof if open.len() > 1 => {
                let name = &open[open.len() - 1].name;
                return Err(bad(at, format!("expected </{name}>, found the end of the file")));
            }
            Event::Eof => break,
            _ => {}
        }
    }
    let roots = open.remove(0).children;
    roots.into_iter().next().ok_or_else(|| bad(0, "expected an element, found none".into()))
}

fn element(tag: &BytesStart, line: usize) -> std::result::Result<Element, String> {
    let attribute = |a: std::result::Result<quick_xml::events::attributes::Attribute, _>| {
        let a = a.map_err(|e: quick_xml::events::attributes::AttrError| e.to_string())?;
        let value = a.normalized_value(quick_xml::XmlVersion::Implicit1_0).map_err(|e| e.to_string())?;
        Ok((a.key.as_ref().to_string(), value.into_owned()))
    };
    let attributes = tag.attributes().map(attribute).collect::<std::result::Result<_, String>>()?;
    Ok(Element { name: tag.name().as_ref().to_string(), line, attributes, ..Element::default() })
}

impl Element {
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// An attribute that must be present.
    pub(super) fn needed(&self, name: &str) -> std::result::Result<&str, String> {
        self.attribute(name)
            .ok_or_else(|| format!("line {}: <{}>: expected '{name}', found none", self.line, self.name))
    }

    /// An attribute that must be a number.
    pub(super) fn number(&self, name: &str) -> std::result::Result<f32, String> {
        let text = self.needed(name)?;
        let number = text.trim().parse::<f32>().ok().filter(|v| v.is_finite());
        number.ok_or_else(|| format!("line {}: {name}: expected a number, found '{text}'", self.line))
    }

    /// The children with a name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> + 'a {
        self.children.iter().filter(move |c| c.name == name)
    }

    /// The elements with a name, at any depth.
    pub(super) fn below<'a>(&'a self, name: &str) -> Vec<&'a Element> {
        let inside = self.children.iter().flat_map(|c| c.below(name));
        self.children.iter().filter(|c| c.name == name).chain(inside).collect()
    }

    /// The first child with a name.
    pub(super) fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|c| c.name == name)
    }
}

/// Escapes text to stand between quotes or tags.
pub(super) fn escape(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_attributes_text_and_lines_are_read() {
        let text = "<?xml version='1.0'?>\n<a>\n  <b x='1 &lt; 2' y=\"3\"/>\n  <c>free &amp; easy</c>\n</a>\n";
        let root = parse(Path::new("f.xml"), text).unwrap();
        let b = root.child("b").unwrap();
        assert_eq!((root.name.as_str(), b.line, b.attribute("x"), b.number("y")), ("a", 3, Some("1 < 2"), Ok(3.)));
        assert!(b.number("x").unwrap_err().contains("line 3: x: expected a number, found '1 < 2'"));
        assert!(b.needed("z").unwrap_err().contains("<b>: expected 'z'"));
        assert_eq!(root.child("c").unwrap().text, "free & easy");
    }

    #[test]
    fn what_is_no_xml_is_told_with_its_line() {
        for (text, line) in
            [("<a>\n<b>\n</a>", "line 3"), ("<a>\n<b>", "line 2"), ("", "line 1"), ("<a x=1/>", "line 1")]
        {
            let error = parse(Path::new("f.xml"), text).unwrap_err().to_string();
            assert!(error.contains(&format!("f.xml: {line}")), "{error}");
        }
        assert!(parse(Path::new("f.xml"), &"<a>".repeat(1000)).unwrap_err().to_string().contains("at most 64"));
    }
}
