//! A report in Markdown, HTML and JSON, each with the SHA-256 of all its other lines. Pure.
//!
//! **Whatever was read is escaped**, in one place for each format: names and tags may be the attacker's.

use super::Report;
use super::document::{Block, document};
use crate::model::sha256;
use crate::operator::seal::seal;
use crate::operator::shell::quoted;
use crate::operator::text::{plain, wrapped};

/// No script, nothing from elsewhere; the policy says so to the browser as well.
const HTML_HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>TITLE</title>
<style>
body { margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #111; background: #fff; font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.6rem; overflow-wrap: anywhere; }
h2 { margin-top: 2rem; border-bottom: 1px solid #999; font-size: 1.2rem; }
table { border-collapse: collapse; width: 100%; margin: .8rem 0; font-size: .87rem; }
th, td { border: 1px solid #bbb; padding: .25rem .5rem; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
th { background: #eee; overflow-wrap: normal; }
.facts th { width: 11rem; }
pre { padding: .6rem; border: 1px solid #bbb; background: #f6f6f6; white-space: pre-wrap; overflow-wrap: anywhere; }
.short { white-space: nowrap; }
.digest { font-family: monospace; overflow-wrap: anywhere; }
@page { margin: 15mm; }
@media print {
  body { margin: 0; max-width: none; padding: 0; font-size: 10pt; }
  h2 { break-after: avoid; }
  thead { display: table-header-group; }
  tr, pre { break-inside: avoid; }
  table { font-size: 7.5pt; }
}
</style>
</head>
<body>
"#;
/// Cells of so many characters are not broken: words and numbers.
const SHORT: usize = 12;
/// How the line with the digest begins: nothing that was read can begin a line.
const MARKDOWN_DIGEST: &str = "SHA-256 of all other lines: ";
const HTML_DIGEST: &str = "<p class=\"digest\">";

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Markdown,
    Html,
    Json,
}

impl Report {
    /// The report, as a file of this name.
    #[must_use]
    pub fn render(&self, format: Format, file: &str) -> String {
        match format {
            Format::Markdown => markdown(self, file),
            Format::Html => html(self, file),
            Format::Json => seal(self),
        }
    }
}

/// What compares a file with the digest in it.
#[must_use]
fn check(begins: &str, file: &str) -> String {
    format!("grep -v {} {} | sha256sum", quoted(&format!("^{begins}")), quoted(file))
}

fn markdown(report: &Report, file: &str) -> String {
    let mut text = document(report).iter().map(markdown_block).collect::<Vec<_>>().join("\n");
    text.push_str(&format!("\nTo check this file:\n\n    {}\n\n", check(MARKDOWN_DIGEST.trim_end(), file)));
    let digest = sha256(&text);
    text.push_str(&format!("{MARKDOWN_DIGEST}{digest}\n"));
    text
}

fn markdown_block(block: &Block) -> String {
    let row = |cells: &Vec<String>| {
        format!("| {} |\n", cells.iter().map(|cell| in_markdown(cell)).collect::<Vec<_>>().join(" | "))
    };
    match block {
        Block::Title(text) => format!("# {}\n", in_markdown(text)),
        Block::Heading(text) => format!("## {text}\n"),
        Block::Text(text) => format!("{}\n", wrapped(&in_markdown(text), "")),
        Block::List(items) => {
            items.iter().map(|item| format!("{}\n", wrapped(&format!("- {}", in_markdown(item)), "  "))).collect()
        }
        Block::Facts(facts) => {
            let facts = facts
                .iter()
                .map(|(name, value)| format!("{}\n", wrapped(&format!("- {name}: {}", in_markdown(value)), "  ")));
            facts.collect()
        }
        Block::Table { head, rows } => {
            let rule = format!("|{}\n", "---|".repeat(head.len()));
            format!("| {} |\n{rule}{}", head.join(" | "), rows.iter().map(row).collect::<String>())
        }
        // Indented, since no command can end that: a fence could be closed.
        Block::Commands(commands) => commands.iter().map(|command| format!("    {}\n", plain(command))).collect(),
    }
}

fn html(report: &Report, file: &str) -> String {
    let blocks = document(report);
    let mut text = HTML_HEAD.replace("TITLE", &in_html(&format!("Incident {}", report.incident)));
    text.extend(blocks.iter().map(html_block));
    let command = in_html(&check(HTML_DIGEST, file));
    text.push_str(&format!("<p>To check this file:</p>\n<pre>{command}</pre>\n"));
    let (after, digest_of) = ("</body>\n</html>\n", |text: &str, after: &str| sha256(&format!("{text}{after}")));
    let digest = digest_of(&text, after);
    text.push_str(&format!("{HTML_DIGEST}SHA-256 of all other lines: {digest}</p>\n{after}"));
    text
}

fn html_block(block: &Block) -> String {
    let cell = |cell: &String| {
        let class = if cell.chars().count() <= SHORT { " class=\"short\"" } else { "" };
        format!("<td{class}>{}</td>", in_html(cell))
    };
    let cells = |cells: &[String]| cells.iter().map(cell).collect::<String>();
    match block {
        Block::Title(text) => format!("<h1>{}</h1>\n", in_html(text)),
        Block::Heading(text) => format!("<h2>{}</h2>\n", in_html(text)),
        Block::Text(text) => format!("<p>{}</p>\n", in_html(text)),
        Block::List(items) => {
            let items = items.iter().map(|item| format!("<li>{}</li>\n", in_html(item)));
            format!("<ul>\n{}</ul>\n", items.collect::<String>())
        }
        Block::Facts(facts) => {
            let row = |(name, value): &(&str, String)| {
                format!("<tr><th scope=\"row\">{name}</th><td>{}</td></tr>\n", in_html(value))
            };
            format!("<table class=\"facts\">\n{}</table>\n", facts.iter().map(row).collect::<String>())
        }
        Block::Table { head, rows } => {
            let head = head.iter().map(|name| format!("<th scope=\"col\">{}</th>", in_html(name))).collect::<String>();
            let rows = rows.iter().map(|row| format!("<tr>{}</tr>\n", cells(row))).collect::<String>();
            format!("<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n")
        }
        Block::Commands(commands) => {
            let commands: Vec<String> = commands.iter().map(|command| in_html(command)).collect();
            format!("<pre>{}</pre>\n", commands.join("\n"))
        }
    }
}

fn in_html(text: &str) -> String {
    let escape = |c: char| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        '\'' => "&#39;".to_owned(),
        c => c.to_string(),
    };
    plain(text).chars().map(escape).collect()
}

/// Neither markup nor HTML, nor an address that becomes a link. An underscore within a word is no markup.
fn in_markdown(text: &str) -> String {
    let text = plain(text);
    let mut escaped = String::new();
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let is_in_word =
            |next: Option<&char>| before.is_alphanumeric() && next.is_some_and(|next| next.is_alphanumeric());
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '_' if is_in_word(rest.peek()) => escaped.push('_'),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '>' | '!' => escaped.extend(['\\', c]),
            ':' if rest.peek() == Some(&'/') => escaped.push_str("\\:"),
            '.' if before == 'w' => escaped.push_str("\\."),
            c => escaped.push(c),
        }
        before = c;
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_was_read_is_markup() {
        assert_eq!(
            in_html("<script>alert('x')</script>&\""),
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;"
        );
        for (text, shown) in [
            ("web", "web"),
            ("UPDATE_COMPLETE", "UPDATE_COMPLETE"),
            ("_web_", "\\_web\\_"),
            ("a|b", "a\\|b"),
            ("a\n| b |\r\n# c", "a \\| b \\|  # c"),
            ("<img src=x>", "&lt;img src=x\\>"),
            ("[x](http://evil)", "\\[x\\](http\\://evil)"),
            ("www.evil", "www\\.evil"),
            ("\u{202e}txt\u{7}", "\\\\u{202e}txt\\\\u{7}"),
            ("`*\\", "\\`\\*\\\\"),
        ] {
            assert_eq!(in_markdown(text), shown, "{text:?}");
        }
    }
}
