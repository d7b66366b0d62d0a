//! The case file as a reader sees it: opened in a real browser, at the width of a page and on paper. The picture stays in target/tmp.
//!
//! The browser is Chromium: `CHROMIUM`, one on the PATH, or the one that `make tools` has put under target/tools. Without any (another
//! system than Debian) these tests say so and see nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use ec2_isolation::operator::Format;

use super::report::{incident, report};

const WIDTH: u32 = 890;
/// Where `make tools` unpacks it.
const OWN: &str = "target/tools/chromium";

#[allow(clippy::print_stderr)] // Who runs the tests reads it.
fn browser() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path =
        std::env::split_paths(&path).flat_map(|folder| ["chromium", "google-chrome"].map(|name| folder.join(name)));
    let own = Path::new(OWN).join("usr/lib/chromium/chromium");
    let found = named.into_iter().chain(on_path).chain([own]).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("no Chromium was found: the case file was not looked at");
    }
    found
}

/// What Chromium prints. It connects to nothing, and its profile is a new one.
fn browse(browser: &Path, arguments: &[&str], page: &Path) -> String {
    let profile = page.with_extension(format!("browser-{}", std::process::id()));
    // Of the one under target/tools; another one has its own.
    let libraries = Path::new(OWN).join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let libraries = std::path::absolute(libraries).unwrap();
    let output = Command::new(browser)
        .env("LD_LIBRARY_PATH", format!("{0}:{0}/pulseaudio", libraries.display()))
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"])
        // The page that measures reads the one that is measured.
        .args(["--allow-file-access-from-files", "--virtual-time-budget=10000"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(arguments)
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_dir_all(&profile).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Measures the page and its picture, and writes what it found into its own title.
const MEASURE: &str = r#"<!doctype html><title>nothing</title>
<iframe src="PAGE" width="WIDTH" height="4000" frameborder="0"></iframe><img src="PICTURE">
<script>
window.onload = () => {
  const page = document.querySelector("iframe").contentDocument;
  const image = document.querySelector("img");
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
  let dark = 0;
  for (let i = 0; i < pixels.length; i += 4) dark += pixels[i] + pixels[i + 1] + pixels[i + 2] < 300;
  const sizes = [...page.querySelectorAll("p, li, td, th, pre, h1, h2")].map(e => parseFloat(getComputedStyle(e).fontSize));
  const wide = [...page.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > WIDTH + 1);
  document.title = JSON.stringify({
    wide: wide.length, smallest: Math.min(...sizes), tables: page.querySelectorAll("table").length, heading: page.querySelector("h1").innerText,
    scripts: page.querySelectorAll("script").length, width: canvas.width, dark: Math.round(1000 * dark / (canvas.width * canvas.height)),
  });
};
</script>"#;

/// The case file, written below target/tmp.
async fn case_file(name: &str) -> PathBuf {
    let folder = std::env::current_dir().unwrap().join("target/tmp");
    std::fs::create_dir_all(&folder).unwrap();
    let page = folder.join(name);
    std::fs::write(&page, report(&incident().await).await.render(Format::Html, name)).unwrap();
    page
}

#[tokio::test(start_paused = true)]
async fn a_reader_sees_the_whole_case_file_at_the_width_of_a_page() {
    let Some(browser) = browser() else { return };
    let page = case_file("picture.html").await;
    let [picture, measure] = ["picture.png", "measure.html"].map(|name| page.with_file_name(name));
    let screenshot = format!("--screenshot={}", picture.display());
    browse(&browser, &[&screenshot, &format!("--window-size={WIDTH},4000")], &page);
    let text = MEASURE.replace("PAGE", "picture.html").replace("PICTURE", "picture.png");
    std::fs::write(&measure, text.replace("WIDTH", &WIDTH.to_string())).unwrap();
    let shown = browse(&browser, &["--dump-dom"], &measure);
    let title = shown.split_once("<title>").unwrap().1.split_once("</title>").unwrap().0.replace("&quot;", "\"");
    let found: serde_json::Value = serde_json::from_str(&title).unwrap();
    assert_eq!(found["heading"], "Incident incident-2026-11-25");
    assert_eq!((found["width"].as_u64(), found["scripts"].as_u64()), (Some(WIDTH.into()), Some(0)));
    // Nothing sticks out to the right, nothing is too small to read, and there is text in the picture.
    assert_eq!(found["wide"], 0, "{found}");
    assert!(found["smallest"].as_f64().unwrap() >= 11.0, "{found}");
    assert!(found["tables"].as_u64().unwrap() >= 7, "{found}");
    assert!((5..200).contains(&found["dark"].as_u64().unwrap()), "{found}");
}

#[tokio::test(start_paused = true)]
async fn a_case_file_can_be_printed() {
    let Some(browser) = browser() else { return };
    let page = case_file("paper.html").await;
    let paper = page.with_extension("pdf");
    browse(&browser, &[&format!("--print-to-pdf={}", paper.display())], &page);
    let printed = std::fs::read(&paper).unwrap();
    let pages = String::from_utf8_lossy(&printed).matches("/Type /Page\n").count();
    assert!(printed.starts_with(b"%PDF-") && (2..=8).contains(&pages), "{pages} pages");
}
