use std::io::{Cursor, Read};

use prost_types::value::Kind;
use v1::recipient::Identifier;

use super::*;

fn audience(format: Format, item_id: Option<&str>) -> Audience {
    let columns = Columns {
        recipient: "recipient".to_owned(),
        recipient_kind: RecipientKind::Id,
        item_id: item_id.map(str::to_owned),
    };
    Audience { source: Source::Stdin, format, columns }
}

/// `line item_id recipient name=value,...` of a good row, `line! problem` of a bad one.
fn shown(row: &Row) -> String {
    let item = match &row.item {
        Ok(item) => item,
        Err(problem) => return format!("{}! {problem}", row.line),
    };
    let Some(Identifier::Id(recipient)) = item.recipient.clone().and_then(|recipient| recipient.identifier)
    else {
        return "no id".to_owned();
    };
    let variables = item.variables.as_ref().map_or("literal".to_owned(), |variables| {
        let shown = variables.fields.iter().map(|(name, value)| match &value.kind {
            Some(Kind::StringValue(text)) => format!("{name}='{text}'"),
            other => format!("{name}={}", format!("{other:?}").replace("Some", "")),
        });
        shown.collect::<Vec<_>>().join(",")
    });
    format!("{} {} {recipient} {variables}", row.line, item.item_id)
}

fn rows_of(audience: &Audience, text: impl Into<Vec<u8>>) -> anyhow::Result<Vec<String>> {
    let rows = audience.read(Box::new(Cursor::new(text.into())))?;
    rows.map(|row| row.map(|row| shown(&row))).collect()
}

#[test]
fn csv_rows_with_their_lines() {
    let cases: [(&str, &str, &[&str]); 10] = [
        ("plain", "recipient\n1\n2\n", &["2 line-2 1 literal", "3 line-3 2 literal"]),
        ("byte order mark, CRLF", "\u{feff}recipient,name\r\n1,Ann\r\n", &["2 line-2 1 name='Ann'"]),
        ("no newline at the end", "recipient,name\n1,Ann", &["2 line-2 1 name='Ann'"]),
        (
            "quotes, a newline within them, and what follows",
            "recipient,name\n1,\"Ann, \"\"A\"\"\nB\"\n2,Bob\n",
            &["2 line-2 1 name='Ann, \"A\"\nB'", "4 line-4 2 name='Bob'"],
        ),
        (
            "item ids and the order of columns",
            "name, item_id ,recipient\nAnn,a, 1 \nBob, ,2\n",
            &["2 a 1 name='Ann'", "3! item_id is empty"],
        ),
        (
            "too few and too many fields",
            "recipient,name\n1\n2,Bob,x\n3,Cid\n",
            &["2! has 1 fields, not 2", "3! has 3 fields, not 2", "4 line-4 3 name='Cid'"],
        ),
        (
            "empty recipient",
            "recipient,name\n,Ann\n  ,Bob\n",
            &["2! recipient is empty", "3! recipient is empty"],
        ),
        ("blank lines", "recipient\n\n1\n\n\n2\n", &["3 line-3 1 literal", "6 line-6 2 literal"]),
        (
            "blank lines, CRLF, quotes",
            "recipient,name\r\n\r\n1,\"A\r\nB\"\r\n\r\n2,Bob\r\n3,Cid",
            &["3 line-3 1 name='A\r\nB'", "6 line-6 2 name='Bob'", "7 line-7 3 name='Cid'"],
        ),
        ("columns only", "recipient,name\n", &[]),
    ];
    for (name, text, expected) in cases {
        assert_eq!(rows_of(&audience(Format::Csv, None), text).unwrap(), expected, "{name}");
    }
    let latin1 =
        rows_of(&audience(Format::Csv, None), b"recipient,name\n1,Zo\xeb\n2,Bob\n".to_vec()).unwrap();
    assert_eq!(latin1, ["2! name is not UTF-8", "3 line-3 2 name='Bob'"]);
}

#[test]
fn csv_columns_that_cannot_be_used() {
    let cases = [
        (None, "", "the audience is empty: its first line must name the columns"),
        (None, "recipient,a,a\n", "line 1: two columns are named a"),
        (None, "recipient,\n", "line 1, column 2 has no name"),
        (
            None,
            "psid,a\n1,2\n",
            "line 1: no column is named recipient but psid, a: name it with --recipient-column",
        ),
        (
            Some("key"),
            "recipient\n",
            "line 1: no column is named key but recipient: name it with --item-id-column",
        ),
    ];
    for (item_id, text, expected) in cases {
        let error = rows_of(&audience(Format::Csv, item_id), text).unwrap_err();
        assert_eq!(error.to_string(), expected, "{text:?}");
    }
}

#[test]
fn ndjson_rows_with_their_lines() {
    let cases: [(&str, &str, &[&str]); 8] = [
        (
            "byte order mark, CRLF, blank lines",
            "\u{feff}{\"recipient\":\"1\"}\r\n\r\n \n{\"recipient\":\"2\"}",
            &["1 line-1 1 literal", "4 line-4 2 literal"],
        ),
        (
            "types of variables",
            r#"{"recipient":"1","a":"x","b":2,"c":null,"d":true}"#,
            &["1 line-1 1 a='x',b=(NumberValue(2.0)),c=(NullValue(NullValue)),d=(BoolValue(true))"],
        ),
        (
            "a number as recipient",
            r#"{"recipient":24801112345678901}"#,
            &["1 line-1 24801112345678901 literal"],
        ),
        (
            "the first row decides that rows without variables are templates",
            "{\"recipient\":\"1\",\"a\":\"x\"}\n{\"recipient\":\"2\"}\n",
            &["1 line-1 1 a='x'", "2 line-2 2 "],
        ),
        (
            "item ids",
            "{\"recipient\":\"1\",\"item_id\":\"a\"}\n{\"recipient\":\"2\",\"item_id\":\"\"}\n",
            &["1 a 1 literal", "2! item_id is empty"],
        ),
        (
            "not JSON",
            "{\"recipient\":\"1\"\n[1]\n\"x\"\n{\"recipient\":\"2\"}\n",
            &[
                "1! is not JSON: EOF while parsing an object at column 16",
                "2! is not a JSON object",
                "3! is not a JSON object",
                "4 line-4 2 literal",
            ],
        ),
        (
            "recipients that are none",
            "{\"a\":1}\n{\"recipient\":null}\n{\"recipient\":1.5}\n{\"recipient\":\"\"}\n",
            &[
                "1! recipient is missing",
                "2! recipient is missing",
                "3! recipient must be a string or a whole number",
                "4! recipient is empty",
            ],
        ),
        ("nothing", "", &[]),
    ];
    for (name, text, expected) in cases {
        assert_eq!(rows_of(&audience(Format::Ndjson, None), text).unwrap(), expected, "{name}");
    }
    let named = rows_of(&audience(Format::Ndjson, Some("key")), "{\"recipient\":\"1\"}").unwrap();
    assert_eq!(named, ["1! key is missing"]);
}

#[test]
fn a_row_without_end_is_not_read_into_memory() {
    for (format, head) in [(Format::Csv, "recipient\n\"1"), (Format::Ndjson, "{\"recipient\":\"")] {
        let endless = Cursor::new(head).chain(std::io::repeat(b'x'));
        let mut rows = audience(format, None).read(Box::new(endless)).unwrap();
        let error = rows.next().unwrap().unwrap_err();
        assert!(format!("{error:#}").contains("longer than 8 MiB"), "{error:#}");
    }
}

#[test]
fn formats_of_file_names() {
    let cases = [
        ("a.csv", Some(Format::Csv)),
        ("a.CSV", Some(Format::Csv)),
        ("a.b.ndjson", Some(Format::Ndjson)),
        ("a.jsonl", Some(Format::Ndjson)),
        ("a.txt", None),
        ("-", None),
    ];
    for (name, expected) in cases {
        assert_eq!(Format::of(name.as_ref()).ok(), expected, "{name}");
    }
}
