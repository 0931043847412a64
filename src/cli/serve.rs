//! `serve`: serves the page on this machine, to its own browsers. `/` is `www/`, `/pkg/` is the package; nothing else is reachable,
//! and no other machine can connect, because it listens only on the loopback address.

use anyhow::{bail, Context, Result};
use clap::Args;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Args)]
pub(super) struct ServeArgs {
    /// Port; 0 for any free one
    #[arg(long, default_value_t = 9696)]
    port: u16,
    /// Folder that holds www and pkg
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// Open the page in the browser
    #[arg(long)]
    open: bool,
}

/// Nothing from elsewhere and no inline script, so that the server enforces what the page promises.
const POLICY: &str =
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; \
     style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; manifest-src 'self'";

pub(super) fn serve(args: ServeArgs) -> Result<()> {
    for folder in ["www", "pkg"] {
        if !args.root.join(folder).is_dir() {
            bail!("no folder '{folder}' in {}: run it where face96 was cloned, or give --root", args.root.display());
        }
    }
    let server = TcpListener::bind(("127.0.0.1", args.port)).with_context(|| format!("port {}", args.port))?;
    let url = format!("http://{}/", server.local_addr()?);
    println!("{url}");
    std::io::stdout().flush()?;
    if args.open {
        let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
        if std::process::Command::new(opener).arg(&url).spawn().is_err() {
            eprintln!("open the address above in a browser");
        }
    }
    for stream in server.incoming() {
        let root = args.root.clone();
        let answer = move |stream| {
            if let Err(error) = answer(&root, stream) {
                // A browser that leaves a page closes the connections that were still loading it, or never sends a request.
                let left = |e: &std::io::Error| {
                    use ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, WouldBlock};
                    matches!(e.kind(), BrokenPipe | ConnectionReset | TimedOut | WouldBlock)
                };
                if !error.downcast_ref().is_some_and(left) {
                    eprintln!("{error:#}");
                }
            }
        };
        // One thread per connection: with tiny_http, tried first, browsers that open several connections at once had to wait.
        let started = stream.and_then(|stream| std::thread::Builder::new().spawn(move || answer(stream)));
        if let Err(error) = started {
            // Too many connections at once: some of the open ones must end first.
            eprintln!("a connection is refused: {error}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// How long a connection may take to send its request, and then to accept each part of the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request's bytes, all of which must arrive before a deadline, however slowly they come.
struct Until {
    stream: TcpStream,
    end: Instant,
}

impl Read for Until {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(out)
    }
}

/// The file that a URL's path stands for, or `None`.
fn file_of(root: &Path, url: &str) -> Option<PathBuf> {
    let path = url.split(['?', '#']).next()?.strip_prefix('/')?;
    let path = Path::new(if path.is_empty() { "index.html" } else { path });
    if path.components().any(|c| !matches!(c, Component::Normal(_))) {
        return None;
    }
    let (folder, file) = if path.starts_with("pkg") {
        (root.join("pkg"), root.join(path))
    } else {
        (root.join("www"), root.join("www").join(path))
    };
    // A link may lead anywhere, so its target must lie inside.
    let inside = file.canonicalize().ok()?.starts_with(folder.canonicalize().ok()?);
    (inside && file.is_file()).then_some(file)
}

/// Reads one request and answers it, then the connection ends.
fn answer(root: &Path, mut stream: TcpStream) -> Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = Until { stream: stream.try_clone()?, end: Instant::now() + PATIENCE };
    // No browser sends longer headers to a page without cookies.
    let mut reader = BufReader::new(request.take(64 * 1024));
    let (mut request, mut header, mut known) = (String::new(), String::from("-"), String::new());
    if reader.read_line(&mut request)? == 0 {
        // A browser's spare connection, closed unused.
        return Ok(());
    }
    while !header.trim().is_empty() {
        header.clear();
        if reader.read_line(&mut header)? == 0 {
            break;
        }
        if let Some((_, tag)) = header.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("if-none-match")) {
            known = tag.trim().to_owned();
        }
    }
    let mut words = request.split_whitespace();
    let (method, url) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let file = if ["GET", "HEAD"].contains(&method) { file_of(root, url) } else { None };
    let tag = file.as_deref().map(tag_of).transpose()?.unwrap_or_default();
    let (status, kind, body) = match &file {
        Some(path) if tag == known => ("304 Not Modified", kind_of(path), Vec::new()),
        Some(path) => ("200 OK", kind_of(path), std::fs::read(path).with_context(|| path.display().to_string())?),
        None => ("404 Not Found", "text/plain; charset=utf-8", b"not found\n".to_vec()),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Security-Policy: {POLICY}\r\nCache-Control: no-cache\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n"
    )?;
    if !tag.is_empty() {
        write!(stream, "ETag: {tag}\r\n")?;
    }
    if tag != known || tag.is_empty() {
        write!(stream, "Content-Length: {}\r\n", body.len())?;
    }
    write!(stream, "\r\n")?;
    if method != "HEAD" {
        stream.write_all(&body)?;
    }
    Ok(stream.flush()?)
}

/// Changes with the file: a browser keeps its copy, and the service worker does not load again what the page just loaded.
fn tag_of(path: &Path) -> Result<String> {
    let about = std::fs::metadata(path).with_context(|| path.display().to_string())?;
    let time = about.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(format!("\"{:x}-{:x}\"", about.len(), time.as_nanos()))
}

fn kind_of(path: &Path) -> &'static str {
    match path.extension().and_then(|e| e.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("wasm") => "application/wasm",
        Some("json") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_the_two_folders_is_served() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["www", "pkg"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
            std::fs::write(dir.path().join(folder).join("index.html"), "x").unwrap();
        }
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        let of = |url: &str| file_of(dir.path(), url);
        assert!(of("/").is_some_and(|p| p.ends_with("www/index.html")));
        assert!(of("/pkg/index.html?v=1").is_some_and(|p| p.ends_with("pkg/index.html")));
        assert_eq!(
            [of("/../secret"), of("/secret"), of("/pkg/../secret"), of("//etc/passwd")],
            [None, None, None, None]
        );
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("../secret", dir.path().join("www/link")).unwrap();
            std::os::unix::fs::symlink("../../secret", dir.path().join("pkg/link")).unwrap();
            std::os::unix::fs::symlink("index.html", dir.path().join("www/start.html")).unwrap();
            assert_eq!([of("/link"), of("/pkg/link")], [None, None]);
            assert!(of("/start.html").is_some(), "a link that stays inside");
        }
        for url in ["/%2e%2e/secret", "/\\..\\secret", "", "?", "/\0", "/www/index.html", "/pkg"] {
            assert!(of(url).is_none_or(|p| p.ends_with("www/index.html")), "{url}");
        }
    }

    #[test]
    fn a_file_that_the_browser_has_is_not_sent_again() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("www")).unwrap();
        std::fs::write(dir.path().join("www/index.html"), "hello").unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let get = |headers: &str| {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            write!(client, "GET / HTTP/1.1\r\n{headers}\r\n").unwrap();
            answer(dir.path(), listener.accept().unwrap().0).unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            text
        };
        let first = get("");
        assert!(first.starts_with("HTTP/1.1 200 OK") && first.ends_with("hello"), "{first}");
        let tag = first.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap();
        let second = get(&format!("if-none-match: {tag}\r\n"));
        assert!(second.starts_with("HTTP/1.1 304") && second.ends_with("\r\n\r\n"), "{second}");
        assert!(get("If-None-Match: \"other\"\r\n").ends_with("hello"));
    }
}
