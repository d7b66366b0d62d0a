//! The pages for people against the rules of their prose: short sentences, and words that say who acts.

use std::path::Path;

/// A sentence has so many words at most.
const LONGEST: usize = 25;
/// The average sentence of a page has fewer words than this.
const AVERAGE: usize = 18;

/// They leave open who acts, or are hard to read for people who have learnt English late, or claim of connections what EC2 does not show.
const FORBIDDEN: [&str; 14] = [
    "whoever",
    "somebody",
    "someone",
    "nobody",
    "whatever",
    "wherever",
    "all the same",
    "for good",
    "in earnest",
    "anew",
    "cut off",
    "most connections",
    "most open connections",
    "most of them",
];

/// Each page with its text.
fn pages() -> Vec<(String, String)> {
    let files = ["docs", "docs/reference"].into_iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let single = ["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "local-aws/README.md"];
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).chain(single.map(Into::into)).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    paths.iter().map(|path| (path.display().to_string(), read(path))).collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines without blocks of code, without comments, and with a word in place of inline code, which may go on over a line.
fn without_code(text: &str) -> String {
    let mut is_code = false;
    let is_prose = |line: &&str| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    };
    let prose = text.lines().filter(is_prose).collect::<Vec<_>>().join("\n");
    let comments = prose.split("<!--").enumerate();
    let kept = comments.map(|(at, part)| if at == 0 { part } else { part.split_once("-->").expect("its end").1 });
    let pieces = kept.collect::<String>();
    let pieces = pieces.split('`').enumerate().map(|(at, piece)| if at % 2 == 0 { piece } else { "Code" });
    pieces.collect()
}

/// The paragraphs and items of lists, each in one line, without tables, headings, and the targets of links.
fn paragraphs(text: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for line in text.lines().map(|line| line.trim().trim_start_matches('>').trim_start()) {
        let is_item = line.split_once(' ').is_some_and(|(mark, _)| {
            let number = mark.strip_suffix('.').unwrap_or_default();
            mark == "-" || mark == "*" || (!number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
        });
        if is_item || line.is_empty() || line.starts_with(['#', '|', '!']) {
            found.push(String::new());
        }
        if !line.starts_with(['#', '|', '!']) {
            let text = if is_item { line.split_once(' ').unwrap().1 } else { line };
            let paragraph = found.last_mut().unwrap();
            paragraph.push(' ');
            paragraph.push_str(&text.replace("**", ""));
        }
    }
    found.iter().filter(|text| !text.is_empty()).map(|text| without_targets(text)).collect()
}

fn without_targets(text: &str) -> String {
    let mut parts = text.split("](");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once(')').expect("the end of a link").1).replace('[', "")
}

/// A sentence ends with its mark, or with the bracket or quote behind it, and a capital or a stressed word begins the next one.
fn sentences(paragraph: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut ended = true;
    for word in paragraph.split_whitespace() {
        let begins = word.trim_start_matches(['(', '"', '\'']).starts_with(|c: char| c.is_uppercase() || c == '*');
        match found.last_mut() {
            Some(sentence) if !(ended && begins) => *sentence = format!("{sentence} {word}"),
            _ => found.push(word.to_owned()),
        }
        ended = word.trim_end_matches([')', '"', '*', '\'']).ends_with(['.', '!', '?']);
    }
    found
}

fn words(sentence: &str) -> usize {
    sentence.split_whitespace().count()
}

fn sentences_of(text: &str) -> Vec<String> {
    let all = paragraphs(&without_code(text)).into_iter().flat_map(|paragraph| sentences(&paragraph));
    all.filter(|sentence| words(sentence) > 1).collect()
}

#[test]
fn no_sentence_of_a_page_is_long() {
    let (mut long, mut all) = (Vec::new(), 0);
    for (page, text) in pages() {
        let sentences = sentences_of(&text);
        assert!(sentences.len() >= 4, "{page}: only {} sentences were found: the search is broken", sentences.len());
        let total: usize = sentences.iter().map(|sentence| words(sentence)).sum();
        if total >= AVERAGE * sentences.len() {
            long.push(format!("{page}: {total} words in {} sentences", sentences.len()));
        }
        let longer = sentences.iter().filter(|sentence| words(sentence) > LONGEST);
        long.extend(longer.map(|sentence| format!("{page}: {} words: {sentence}", words(sentence))));
        all += sentences.len();
    }
    assert!(all > 1_000, "only {all} sentences were found: the search is broken");
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn the_pages_say_who_acts_in_plain_words() {
    let mut found = Vec::new();
    for (page, text) in pages() {
        // The rows of the drill are the source's list, word for word.
        let own = text.lines().filter(|line| page != "docs/drill.md" || !line.starts_with("| `"));
        let prose = without_code(&own.collect::<Vec<_>>().join("\n"));
        let plain = prose.to_lowercase().replace(|c: char| !c.is_alphanumeric(), " ");
        let plain = format!(" {} ", plain.split_whitespace().collect::<Vec<_>>().join(" "));
        for word in FORBIDDEN {
            for (at, _) in plain.match_indices(&format!(" {word} ")) {
                let rest: String = plain[at..].chars().take(60).collect();
                found.push(format!("{page}: {word:?} in: …{rest}…"));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
