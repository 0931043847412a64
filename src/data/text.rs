//! Reads text files, whoever wrote them: UTF-8 or UTF-16 with a byte-order mark, UTF-8 without, and CSV with commas, semicolons or
//! tabs, whose header is CSV like every other row.

use crate::error::{Error, Result};
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::Path;

/// The whole text of a file.
///
/// # Errors
/// A file that is missing, or whose bytes are not text; the message names the line.
pub(super) fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    decode(bytes).map_err(|why| Error::Data(format!("{}: {why}", path.display())))
}

fn decode(bytes: Vec<u8>) -> std::result::Result<String, String> {
    let wide = |unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes[2..].chunks_exact(2).map(|b| unit([b[0], b[1]])).collect();
        String::from_utf16(&units)
            .map_err(|_| "expected UTF-16 text as its first bytes say, found other bytes".to_string())
    };
    match bytes.as_slice() {
        [0xff, 0xfe, ..] => return wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] => return wide(u16::from_be_bytes),
        _ => {}
    }
    let start = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let text = std::str::from_utf8(&bytes[start..]).map_err(|e| {
        let line = 1 + bytes[..start + e.valid_up_to()].iter().filter(|b| **b == b'\n').count();
        format!("line {line}: {NO_TEXT}")
    })?;
    match text.find('\0') {
        Some(at) => Err(format!("line {}: {NO_ZERO}", 1 + text[..at].matches('\n').count())),
        None => Ok(text.to_string()),
    }
}

const NO_TEXT: &str = "expected UTF-8 text, found other bytes; save the file as UTF-8";

const NO_ZERO: &str = "expected UTF-8 text, found bytes of 0, as UTF-16 has them; save the file as UTF-8";

/// Usual names of the column that names the pictures' files.
const FILE: [&str; 7] = ["file", "filename", "file_name", "image", "image_name", "image_path", "path"];

/// What is wrong in JSON, preceded by its place.
pub(super) fn json_fault(error: &serde_json::Error) -> String {
    let place = format!("line {}, column {}", error.line(), error.column());
    let text = error.to_string();
    let why = text.rsplit_once(" at line ").map_or(text.as_str(), |(why, _)| why);
    if error.is_eof() {
        return format!("{place}: expected the rest of the JSON, found the end of the file");
    }
    // serde's own words are names of Rust types.
    let plain = |expected: &str| match expected {
        "f32" | "f64" => "a number".to_string(),
        "u64" | "usize" | "u32" | "u8" | "i64" => "a whole number".to_string(),
        "a sequence" => "a list".to_string(),
        other => other.to_string(),
    };
    match why.strip_prefix("invalid type: ").and_then(|rest| rest.split_once(", expected ")) {
        Some((found, expected)) => format!("{place}: expected {}, found {found}", plain(expected)),
        None => match why.strip_prefix("missing field `") {
            Some(field) => format!("{place}: expected '{}', found none", field.trim_end_matches('`')),
            None => format!("{place}: {why}"),
        },
    }
}

/// A CSV file, row by row.
pub(super) struct Table {
    reader: csv::Reader<Box<dyn Read + Send>>,
    /// The names of the columns, without the spaces around them.
    pub(super) header: Vec<String>,
    shown: String,
}

/// A row of a [`Table`], and the line of the file at which it begins, as an editor counts.
pub(super) struct Row {
    pub(super) line: u64,
    fields: csv::ByteRecord,
}

impl Table {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// A file that is missing, empty or not text.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let shown = path.display().to_string();
        let bad = |what: String| Error::Data(format!("{shown}: {what}"));
        let file = std::fs::File::open(path).map_err(Error::io(path))?;
        let mut file = BufReader::with_capacity(1 << 16, file);
        let start = file.fill_buf().map_err(Error::io(path))?;
        let mut source: Box<dyn Read + Send> = match start {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Box::new(Cursor::new(read(path)?)),
            [0xef, 0xbb, 0xbf, ..] => {
                file.consume(3);
                Box::new(file)
            }
            _ => Box::new(file),
        };
        // The header's line decides the separator, so it is read twice.
        let mut head = Vec::new();
        source.by_ref().take(1 << 16).read_to_end(&mut head).map_err(Error::io(path))?;
        let line = head.split(|b| matches!(b, b'\n' | b'\r')).find(|l| !l.trim_ascii().is_empty()).unwrap_or_default();
        if line.is_empty() {
            return Err(bad("expected a CSV with a header, found an empty file".into()));
        }
        if line.contains(&0) {
            return Err(bad(format!("line 1: {NO_ZERO}")));
        }
        let separator = separator(line);
        // Normalised line ends, also after the last row, so that lines can be counted.
        let source = LineEnds { inner: Cursor::new(head).chain(source), returned: false }.chain(&b"\n"[..]);
        let source: Box<dyn Read + Send> = Box::new(source);
        let mut builder = csv::ReaderBuilder::new();
        let mut reader = builder.flexible(true).delimiter(separator).buffer_capacity(1 << 20).from_reader(source);
        let header = reader.byte_headers().map_err(|e| bad(e.to_string()))?;
        let name = |field: &[u8]| std::str::from_utf8(field).map(|f| unquoted(f).to_string());
        let header: std::result::Result<Vec<_>, _> = header.iter().map(name).collect();
        let header = header.map_err(|_| bad(format!("line 1: {NO_TEXT}")))?;
        Ok(Self { reader, header, shown })
    }

    /// The index of a column. The column of picture files has several usual names; `Image` is not among them, because it holds Kaggle's pixels.
    pub(super) fn column(&self, name: &str) -> Option<usize> {
        let exactly = self.header.iter().position(|c| c == name);
        let usual = |c: &String| c != "Image" && FILE.iter().any(|usual| c.eq_ignore_ascii_case(usual));
        exactly.or_else(|| self.header.iter().position(usual).filter(|_| name == FILE[0]))
    }

    /// The next row, or `None` at the end. The inner `Err` is a row whose number of columns differs from the header's.
    ///
    /// # Errors
    /// A file that cannot be read any further.
    pub(super) fn next(&mut self) -> Result<Option<Row>> {
        let mut fields = csv::ByteRecord::new();
        let more = self.reader.read_byte_record(&mut fields);
        if !more.map_err(|e| Error::Data(format!("{}: {e}", self.shown)))? {
            return Ok(None);
        }
        // The reader is past the row's end, and the position that it reports for a row precedes the empty lines above it.
        let inside = fields.iter().flatten().filter(|b| **b == b'\n').count() as u64;
        let line = self.reader.position().line().saturating_sub(1 + inside);
        Ok(Some(Row { line, fields }))
    }

    /// A message about a row, preceded by file and line.
    pub(super) fn at(&self, row: &Row) -> String {
        format!("{}: line {}", self.shown, row.line)
    }

    /// Whether the row has as many columns as the header.
    pub(super) fn check(&self, row: &Row) -> std::result::Result<(), String> {
        if row.fields.len() == self.header.len() {
            return Ok(());
        }
        // An unclosed quote swallows the rest of the file.
        let open = if row.fields.iter().any(|f| f.contains(&b'\n')) { "; is a quote not closed?" } else { "" };
        Err(format!("expected {} columns as in the header, found {}{open}", self.header.len(), row.fields.len()))
    }

    /// The text of a field, without the spaces around it; `None` if it is empty or missing.
    pub(super) fn text<'r>(&self, row: &'r Row, column: usize) -> std::result::Result<Option<&'r str>, String> {
        let Some(field) = row.fields.get(column) else { return Ok(None) };
        let text = std::str::from_utf8(field).map_err(|_| format!("column '{}': {NO_TEXT}", self.header[column]))?;
        Ok(Some(unquoted(text)).filter(|t| !t.is_empty()))
    }
}

/// A field without the spaces around it, and without quotes that a space before them has made part of it.
fn unquoted(field: &str) -> &str {
    let field = field.trim();
    field.strip_prefix('"').and_then(|f| f.strip_suffix('"')).unwrap_or(field).trim()
}

impl Row {
    /// The bytes of a field.
    pub(super) fn bytes(&self, column: usize) -> &[u8] {
        &self.fields[column]
    }
}

/// Text whose line ends, `\r\n`, `\r` or `\n`, are all read as `\n`.
struct LineEnds<R> {
    inner: R,
    /// Whether the last byte read was `\r`.
    returned: bool,
}

impl<R: Read> Read for LineEnds<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let n = self.inner.read(out)?;
            if n == 0 {
                return Ok(0);
            }
            // Most files have no `\r`, and most of their bytes are Kaggle's pixels.
            if !self.returned && !out[..n].contains(&b'\r') {
                return Ok(n);
            }
            let mut kept = 0;
            for i in 0..n {
                let byte = out[i];
                if !(byte == b'\n' && self.returned) {
                    out[kept] = if byte == b'\r' { b'\n' } else { byte };
                    kept += 1;
                }
                self.returned = byte == b'\r';
            }
            if kept > 0 {
                return Ok(kept);
            }
        }
    }
}

/// The separator of a header: whichever of `,`, `;`, `|` and tab it has most of, outside of quotes.
fn separator(line: &[u8]) -> u8 {
    let count = |separator: u8| {
        let mut quoted = false;
        let outside = |b: &&u8| {
            quoted ^= **b == b'"';
            !quoted && **b == separator
        };
        line.iter().filter(outside).count()
    };
    let counted = [b'\t', b'|', b';', b','].map(|s| (count(s), s));
    counted.into_iter().max_by_key(|(n, _)| *n).map_or(b',', |(_, s)| s)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(bytes: &[u8]) -> Result<Vec<(u64, Vec<String>)>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        std::fs::write(&path, bytes).unwrap();
        let mut table = Table::open(&path)?;
        let mut rows = vec![(1, table.header.clone())];
        while let Some(row) = table.next()? {
            let fields = (0..table.header.len()).map(|i| table.text(&row, i).unwrap().unwrap_or("").to_string());
            rows.push((row.line, fields.collect()));
        }
        Ok(rows)
    }

    #[test]
    fn the_same_table_is_read_however_it_is_written() {
        let plain = table(b"file,a b,c\n1,2,3\n4,,\n").unwrap();
        assert_eq!(plain[2], (3, vec!["4".to_string(), String::new(), String::new()]));
        let wide: Vec<u8> = "\u{feff}file,a b,c\n1,2,3\n4,,\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for other in [
            &b"\"file\",\"a b\",\"c\"\r\n\"1\",\"2\",\"3\"\r\n4,,\r\n"[..],
            b"\xef\xbb\xbffile, a b ,c\n1,2,3\n4,,\n",
            b"file;a b;c\n1;2;3\n4;;",
            b"\"file\", \"a b\", \"c\"\n\"1\", \"2\", \"3\"\n\"4\", \"\", \"\"\n",
            b"file|a b|c\n1|2|3\n4||",
            b"file,a b,c\r1,2,3\r4,,",
            b"file\ta b\tc\n1\t2\t3\n4\t\t\n",
            &wide,
        ] {
            assert_eq!(table(other).unwrap(), plain, "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn a_row_after_a_line_break_in_quotes_is_counted_as_an_editor_does() {
        let rows = table(b"file,\"notes,\nfree\"\n1,\"a\nb\"\n2,c\n\n\n3,d").unwrap();
        assert_eq!(rows[1..].iter().map(|r| r.0).collect::<Vec<_>>(), [3, 5, 8]);
        assert_eq!(rows[0].1[1], "notes,\nfree");
    }

    #[test]
    fn a_fault_in_json_is_told_with_its_place_first() {
        let fault = |text: &str| json_fault(&serde_json::from_str::<Vec<u64>>(text).unwrap_err());
        assert_eq!(fault("[1,\n \"2\"]"), "line 2, column 4: expected a whole number, found string \"2\"");
        assert_eq!(fault("[1,\n2"), "line 2, column 1: expected the rest of the JSON, found the end of the file");
        assert_eq!(fault("{}"), "line 1, column 0: expected a list, found map");
        let missing = serde_json::from_str::<super::super::coco::Coco>("{}").unwrap_err();
        assert_eq!(json_fault(&missing), "line 1, column 2: expected 'images', found none");
        assert!(fault("[1 2]").starts_with("line 1, column 4: "), "{}", fault("[1 2]"));
    }

    #[test]
    fn a_quote_that_is_not_closed_and_other_names_of_the_file_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.csv");
        std::fs::write(&path, "Image_Path,a\n1,2\n\"3,4\n5,6\n").unwrap();
        let mut table = Table::open(&path).unwrap();
        assert_eq!((table.column("file"), table.column("a"), table.column("path")), (Some(0), Some(1), None));
        let row = table.next().unwrap().unwrap();
        table.check(&row).unwrap();
        let row = table.next().unwrap().unwrap();
        assert!(table.check(&row).unwrap_err().ends_with("found 1; is a quote not closed?"));
    }

    #[test]
    fn what_is_no_text_is_told_with_its_line() {
        assert!(table(b"").unwrap_err().to_string().contains("empty file"));
        assert!(table(b"f\0i\0,\0").unwrap_err().to_string().contains("line 1: expected UTF-8 text, found bytes of 0"));
        assert!(decode(b"a\nb\0\n".to_vec()).unwrap_err().contains("line 2: expected UTF-8 text, found bytes of 0"));
        assert!(table(b"f\xe4ce,x\n").unwrap_err().to_string().contains("line 1: expected UTF-8 text"));
        let error = decode(b"a\nb\xe4\n".to_vec()).unwrap_err();
        assert!(error.contains("line 2: expected UTF-8 text"), "{error}");
    }
}
