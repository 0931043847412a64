//! `serve`: the page on this machine. `/` is `www/`, `/pkg/` the package; nothing else is reachable.

use anyhow::{bail, Context, Result};
use clap::Args;
use std::io::Write;
use std::path::{Component, Path, PathBuf};

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

/// Nothing from elsewhere, and no inline script: what the page promises, the server enforces.
const POLICY: &str =
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; \
     style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; manifest-src 'self'";

pub(super) fn serve(args: ServeArgs) -> Result<()> {
    for folder in ["www", "pkg"] {
        if !args.root.join(folder).is_dir() {
            bail!("no folder '{folder}' in {}: run it where face96 was cloned, or give --root", args.root.display());
        }
    }
    let server =
        tiny_http::Server::http(("127.0.0.1", args.port)).map_err(|e| anyhow::anyhow!("port {}: {e}", args.port))?;
    let port = server.server_addr().to_ip().map_or(args.port, |a| a.port());
    let url = format!("http://127.0.0.1:{port}/");
    println!("{url}");
    std::io::stdout().flush()?;
    if args.open {
        let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
        if std::process::Command::new(opener).arg(&url).spawn().is_err() {
            eprintln!("open the address above in a browser");
        }
    }
    for request in server.incoming_requests() {
        if let Err(e) = answer(&args.root, request) {
            eprintln!("{e:#}");
        }
    }
    Ok(())
}

/// The file that a path of the URL stands for, or nothing.
fn file_of(root: &Path, url: &str) -> Option<PathBuf> {
    let path = url.split(['?', '#']).next()?.trim_start_matches('/');
    let path = Path::new(if path.is_empty() { "index.html" } else { path });
    if path.components().any(|c| !matches!(c, Component::Normal(_))) {
        return None;
    }
    let file = if path.starts_with("pkg") { root.join(path) } else { root.join("www").join(path) };
    file.is_file().then_some(file)
}

fn answer(root: &Path, request: tiny_http::Request) -> Result<()> {
    let header = |name: &str, value: &str| {
        tiny_http::Header::from_bytes(name, value).map_err(|()| anyhow::anyhow!("header {name}: {value}"))
    };
    let Some(path) = file_of(root, request.url()) else {
        return Ok(request.respond(tiny_http::Response::from_string("not found\n").with_status_code(404))?);
    };
    let kind = match path.extension().and_then(|e| e.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("wasm") => "application/wasm",
        Some("json" | "webmanifest") => "application/json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    };
    let file = std::fs::File::open(&path).with_context(|| path.display().to_string())?;
    let mut response = tiny_http::Response::from_file(file).with_header(header("Content-Type", kind)?);
    response.add_header(header("Content-Security-Policy", POLICY)?);
    response.add_header(header("Cache-Control", "no-cache")?);
    Ok(request.respond(response)?)
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
    }
}
