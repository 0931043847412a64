//! Reads picture files as a viewer shows them: JPEG, PNG, WebP, BMP, GIF (its first picture) and TIFF, recognised by their content,
//! turned as their EXIF orientation says. All code that reads picture files uses this module.

use crate::error::{Error, Result};
use crate::picture::Gray;
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader};
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// More pixels than any camera has: a few bytes can claim a picture that does not fit into memory.
const MOST_PIXELS: u64 = 300_000_000;

/// The formats that are read, for messages.
const READ: &str = "JPEG, PNG, WebP, BMP, GIF or TIFF";

/// A picture file.
pub struct Photo {
    /// Its pixels, upright.
    pub picture: DynamicImage,
    /// The format of the file.
    pub format: ImageFormat,
}

/// The kind of a file, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A picture that can be read.
    Picture(ImageFormat),
    /// A picture of another format, by its name.
    Foreign(&'static str),
    /// Anything else.
    Other,
}

/// Tells pictures from other files by their first bytes (32 are enough).
pub fn kind(bytes: &[u8]) -> Kind {
    let brand = bytes.get(4..12).filter(|b| b.starts_with(b"ftyp")).map(|b| &b[4..]);
    match brand {
        Some(b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1") => {
            return Kind::Foreign("HEIC")
        }
        Some(b"avif" | b"avis") => return Kind::Foreign("AVIF"),
        _ => {}
    }
    if bytes.starts_with(b"8BPS") {
        return Kind::Foreign("a Photoshop file");
    }
    if brand.is_some_and(|b| b.starts_with(b"crx")) {
        return Kind::Foreign("a raw photo (CR3)");
    }
    if bytes.starts_with(b"\xff\x0a") || bytes.starts_with(b"\0\0\0\x0cJXL ") {
        return Kind::Foreign("JPEG XL");
    }
    match image::guess_format(bytes) {
        // Text may begin with the two letters BM; these four bytes of a bitmap are 0.
        Ok(ImageFormat::Bmp) if bytes.get(6..10) != Some(&[0; 4]) => Kind::Other,
        Ok(format @ (ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP | ImageFormat::Bmp)) => {
            Kind::Picture(format)
        }
        Ok(format @ (ImageFormat::Gif | ImageFormat::Tiff)) => Kind::Picture(format),
        _ => Kind::Other,
    }
}

/// [`kind`] of a file; `None` if it cannot be read.
pub fn kind_of_file(path: &Path) -> Option<Kind> {
    let mut bytes = [0u8; 32];
    let mut file = std::fs::File::open(path).ok()?;
    let mut n = 0;
    while let Ok(more @ 1..) = file.read(&mut bytes[n..]) {
        n += more;
    }
    Some(kind(&bytes[..n]))
}

/// Whether a file's name ends like a picture's: it is a picture, or a bad one.
pub fn is_called_picture(path: &Path) -> bool {
    let kind = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    ["png", "jpg", "jpeg", "jfif", "webp", "bmp", "gif", "tif", "tiff", "heic", "heif", "avif"].contains(&kind.as_str())
}

/// Whether a name is that of a file which systems add to folders, such as macOS's `._photo.jpg` and `__MACOSX`.
pub fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.') || n == "__MACOSX")
}

/// More folders than any data set has: a mistaken path, such as a home folder, ends with a message and not with the day.
const MOST_FOLDERS: usize = 100_000;

/// Every file in and below a folder that `wanted` accepts, in order. Links are followed, except those to a folder that contains them.
///
/// # Errors
/// A folder that cannot be read, that is the whole disk, or that holds more folders than any data set; the message names it.
pub(super) fn files_below(folder: &Path, wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    if folder.canonicalize().map_err(Error::io(folder))?.parent().is_none() {
        return Err(Error::Data(format!("{}: expected a folder of pictures, found the whole disk", folder.display())));
    }
    let (mut found, mut folders) = (Vec::new(), 0);
    let all = WalkDir::new(folder).follow_links(true).into_iter();
    for entry in all.filter_entry(|e| e.depth() == 0 || !is_hidden(e.path())) {
        let entry = match entry {
            // A link to a folder that contains it.
            Err(e) if e.loop_ancestor().is_some() => continue,
            // A link to nothing.
            Err(e) if e.path().is_some_and(Path::is_symlink) => continue,
            Err(e) => {
                let path = e.path().unwrap_or(folder).to_path_buf();
                return Err(Error::io(path)(e.into()));
            }
            Ok(entry) => entry,
        };
        if entry.file_type().is_dir() {
            folders += 1;
            if folders > MOST_FOLDERS {
                let at = folder.display();
                return Err(Error::Data(format!(
                    "{at}: expected a folder of pictures, found over {MOST_FOLDERS} folders"
                )));
            }
        } else if entry.file_type().is_file() && wanted(entry.path()) {
            found.push(entry.into_path());
        }
    }
    found.sort();
    Ok(found)
}

impl Photo {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that is missing, is not a picture of a format that is read, or is cut off; the message names it.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        Self::decode(&bytes).map_err(|why| Error::Data(format!("{}: {why}", path.display())))
    }

    /// The picture in a file's bytes, or the reason why there is none.
    fn decode(bytes: &[u8]) -> std::result::Result<Self, String> {
        let (decoder, format, orientation) = open(bytes)?;
        let mut picture = DynamicImage::from_decoder(decoder).map_err(|e| reason(&e, format))?;
        picture.apply_orientation(orientation);
        Ok(Self { picture, format })
    }

    /// The picture as the nets see it.
    pub fn grey(&self) -> Gray {
        Gray::of_colours(&self.picture)
    }
}

/// Reads pictures in grey only, one after the other, and reuses its buffers: a photo of 12 million pixels takes 40 MB as a file
/// and in colour, which an allocator would otherwise return and fetch again for each.
#[derive(Default)]
pub struct GreyReader {
    file: Vec<u8>,
    colours: Vec<u8>,
}

impl GreyReader {
    /// Reads a file as the nets see it, and a hash of its bytes, which is the same for copies of one photo.
    ///
    /// # Errors
    /// The errors of [`Photo::read`].
    pub fn read(&mut self, path: &Path) -> Result<(Gray, u64)> {
        self.file.clear();
        let file = std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut self.file));
        file.map_err(Error::io(path))?;
        let grey = self.decode().map_err(|why| Error::Data(format!("{}: {why}", path.display())))?;
        Ok((grey, super::hash_bytes(&self.file, 0)))
    }

    fn decode(&mut self) -> std::result::Result<Gray, String> {
        let (decoder, format, orientation) = open(&self.file)?;
        let (width, height) = decoder.dimensions();
        let mut grey = if decoder.color_type() == ColorType::Rgb8 {
            let size = usize::try_from(decoder.total_bytes()).map_err(|e| e.to_string())?;
            self.colours.resize(size, 0);
            decoder.read_image(&mut self.colours).map_err(|e| reason(&e, format))?;
            Gray::of_rgb(width as usize, height as usize, &self.colours)
        } else {
            Gray::of_colours(&DynamicImage::from_decoder(decoder).map_err(|e| reason(&e, format))?)
        };
        if orientation != Orientation::NoTransforms {
            let picture = image::GrayImage::from_raw(width, height, grey.pixels).ok_or("a picture of another size")?;
            let mut picture = DynamicImage::ImageLuma8(picture);
            picture.apply_orientation(orientation);
            grey = Gray::of_colours(&picture);
        }
        Ok(grey)
    }
}

/// A decoder for a file's bytes, its format, and the orientation of its picture; or the reason why there is none.
fn open(bytes: &[u8]) -> std::result::Result<(impl ImageDecoder + '_, ImageFormat, Orientation), String> {
    let format = format_of(bytes)?;
    if format == ImageFormat::Jpeg && is_cut_off(bytes) {
        return Err("expected a whole JPEG, found one that is cut off: it lacks its end marker".into());
    }
    let mut decoder =
        ImageReader::with_format(Cursor::new(bytes), format).into_decoder().map_err(|e| reason(&e, format))?;
    // Damaged EXIF is not a reason to refuse the picture: viewers show it as stored.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    match decoder.dimensions() {
        (0, _) | (_, 0) => Err("expected a picture with pixels, found none".into()),
        (w, h) if u64::from(w) * u64::from(h) > MOST_PIXELS => {
            Err(format!("expected at most {} million pixels, found {w} x {h}", MOST_PIXELS / 1_000_000))
        }
        _ => Ok((decoder, format, orientation)),
    }
}

/// The format of a file's bytes, or the reason why it is not read.
fn format_of(bytes: &[u8]) -> std::result::Result<ImageFormat, String> {
    match kind(bytes) {
        Kind::Picture(ImageFormat::Tiff) if is_raw(bytes) => Err(format!(
            "expected {READ}, found a raw photo, of which only a small preview could be read; save it as JPEG"
        )),
        Kind::Picture(format) => Ok(format),
        Kind::Foreign("HEIC") => Err(format!(
            "expected {READ}, found HEIC; save it as JPEG (iPhone: Settings, Camera, Formats, Most Compatible)"
        )),
        Kind::Foreign(name) => Err(format!("expected {READ}, found {name}")),
        Kind::Other if bytes.is_empty() => Err(format!("expected {READ}, found an empty file")),
        Kind::Other => {
            let start = String::from_utf8_lossy(&bytes[..bytes.len().min(16)]).escape_debug().to_string();
            Err(format!("expected {READ}, found a file that begins with '{start}'"))
        }
    }
}

/// Whether a TIFF is a camera's raw file (DNG, NEF, ARW, CR2): its first picture says that it is a smaller copy of another (the lowest bit of
/// NewSubfileType; TIFF 6.0, section 8), or its header bears Canon's mark.
fn is_raw(bytes: &[u8]) -> bool {
    const NEW_SUBFILE_TYPE: u32 = 254;
    let little = bytes.starts_with(b"II");
    let number = |at: usize, n: usize| {
        let digits = bytes.get(at..at + n)?.iter().map(|b| u32::from(*b));
        Some(if little { digits.rev().fold(0, |a, b| a << 8 | b) } else { digits.fold(0, |a, b| a << 8 | b) })
    };
    let first = || {
        let at = number(4, 4)? as usize;
        let entries = (0..number(at, 2)? as usize).map(|i| at + 2 + 12 * i);
        let entry = entries.into_iter().find(|at| number(*at, 2) == Some(NEW_SUBFILE_TYPE))?;
        number(entry + 8, 4)
    };
    bytes.get(8..10) == Some(b"CR") || first().is_some_and(|kind| kind & 1 == 1)
}

fn reason(error: &image::ImageError, format: ImageFormat) -> String {
    let why = error.to_string();
    let cut = ["failed to fill whole buffer", "unexpected eof", "unexpected end"];
    match cut.iter().any(|cut| why.to_lowercase().contains(cut)) {
        true => format!("expected a whole {format:?}, found one that is cut off"),
        false => why,
    }
}

/// Width and height of a picture file as a viewer shows it, read from its header alone.
///
/// # Errors
/// A file that is missing or has no such header; the message names it.
pub fn size(path: &Path) -> Result<[usize; 2]> {
    let bad = |why: String| Error::Data(format!("{}: {why}", path.display()));
    let mut start = Vec::new();
    let file = std::fs::File::open(path).and_then(|file| file.take(1 << 12).read_to_end(&mut start));
    file.map_err(Error::io(path))?;
    let format = format_of(&start).map_err(bad)?;
    let mut reader = ImageReader::open(path).map_err(Error::io(path))?;
    reader.set_format(format);
    let mut decoder = reader.into_decoder().map_err(|e| bad(reason(&e, format)))?;
    let (w, h) = decoder.dimensions();
    let turned = matches!(
        decoder.orientation(),
        Ok(Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH)
    );
    Ok(if turned { [h as usize, w as usize] } else { [w as usize, h as usize] })
}

/// Whether a JPEG ends before its end marker (ITU-T T.81, B.1.1.3 to B.2): decoders fill the missing part with grey.
fn is_cut_off(bytes: &[u8]) -> bool {
    let mut at = 2;
    loop {
        // Skip to the next marker: fill bytes, entropy-coded data (in which FF is followed by 00), restart markers.
        while bytes.get(at).is_some_and(|b| *b != 0xff) || matches!(bytes.get(at + 1), Some(0x00 | 0xff | 0xd0..=0xd7))
        {
            at += 1;
        }
        match (bytes.get(at), bytes.get(at + 1)) {
            (Some(0xff), Some(0xd9)) => return false,
            (Some(0xff), Some(0x01 | 0xd8)) => at += 2,
            (Some(0xff), Some(_)) => match bytes.get(at + 2..at + 4) {
                Some(length) => at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]])),
                None => return true,
            },
            _ => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgb, RgbImage};

    #[test]
    fn files_below_ends_with_links_in_circles_and_refuses_the_whole_disk() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("a/b");
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::create_dir(dir.path().join(".hidden")).unwrap();
        for file in ["a/1.pts", "a/b/2.pts", "a/b/2.txt", ".hidden/3.pts"] {
            std::fs::write(dir.path().join(file), "").unwrap();
        }
        let pts = |folder: &Path| files_below(folder, |path| path.extension().is_some_and(|e| e == "pts"));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(dir.path(), inside.join("round")).unwrap();
            std::os::unix::fs::symlink("nowhere", inside.join("broken")).unwrap();
        }
        assert_eq!(pts(dir.path()).unwrap(), ["a/1.pts", "a/b/2.pts"].map(|file| dir.path().join(file)));
        for disk in ["/", "/..", "/./"] {
            assert!(pts(Path::new(disk)).unwrap_err().to_string().contains("whole disk"), "{disk}");
        }
        assert!(pts(&dir.path().join("none")).unwrap_err().to_string().contains("none"));
    }

    /// A picture without symmetry: 12 x 8, in blocks that survive JPEG.
    fn picture() -> DynamicImage {
        let of = |x: u32, y: u32| Rgb([(x / 4 * 90) as u8, (y / 4 * 160) as u8, 40]);
        DynamicImage::ImageRgb8(RgbImage::from_fn(48, 32, |x, y| of(x / 4, y / 4)))
    }

    fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    /// A JPEG with an EXIF segment that holds nothing but the orientation.
    fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
        let tiff = [b'M', b'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0, 0, 0, 0, 0];
        let exif = [b"Exif\0\0", &tiff[..]].concat();
        let length = ((exif.len() + 2) as u16).to_be_bytes();
        [&jpeg[..2], &[0xff, 0xe1], &length, &exif, &jpeg[2..]].concat()
    }

    #[test]
    fn every_format_is_known_by_its_content_and_shows_the_same() {
        for format in [
            ImageFormat::Png,
            ImageFormat::WebP,
            ImageFormat::Bmp,
            ImageFormat::Gif,
            ImageFormat::Tiff,
            ImageFormat::Jpeg,
        ] {
            let bytes = encoded(&picture(), format);
            assert_eq!(kind(&bytes[..32]), Kind::Picture(format));
            let photo = Photo::decode(&bytes).unwrap();
            let grey = photo.grey();
            let expected = Gray::of_colours(&picture());
            let off = grey.pixels.iter().zip(&expected.pixels).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(off <= 12, "{format:?}: {off}");
        }
    }

    #[test]
    fn a_picture_is_what_a_viewer_shows_whatever_its_orientation() {
        // Stored in such a way that the orientation turns it upright.
        let stored = [
            (1, picture()),
            (2, picture().fliph()),
            (3, picture().rotate180()),
            (4, picture().flipv()),
            (6, picture().rotate270()),
            (8, picture().rotate90()),
        ];
        let expected = Gray::of_colours(&picture());
        for (orientation, stored) in stored {
            let bytes = with_orientation(&encoded(&stored, ImageFormat::Jpeg), orientation);
            let grey = Photo::decode(&bytes).unwrap().grey();
            assert_eq!(grey, GreyReader { file: bytes, ..Default::default() }.decode().unwrap());
            assert_eq!((grey.width, grey.height), (48, 32), "{orientation}");
            let off = grey.pixels.iter().zip(&expected.pixels).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(off <= 12, "{orientation}: {off}");
        }
    }

    #[test]
    fn what_is_no_whole_picture_is_told() {
        let error = |bytes: &[u8]| Photo::decode(bytes).err().unwrap();
        let jpeg = encoded(&picture(), ImageFormat::Jpeg);
        for end in [jpeg.len() - 2, jpeg.len() / 2, 4] {
            assert!(error(&jpeg[..end]).contains("cut off"), "{end}");
        }
        let png = encoded(&picture(), ImageFormat::Png);
        assert!(Photo::decode(&png[..png.len() / 2]).is_err());
        // Phones append videos to their photos.
        assert!(Photo::decode(&[&jpeg[..], b"a film"].concat()).is_ok());
        assert!(error(b"\0\0\0\x18ftypheic\0\0\0\0").contains("found HEIC; save it as JPEG"));
        assert!(error(b"\0\0\0\x18ftypavif\0\0\0\0").contains("found AVIF"));
        assert!(error(b"<!DOCTYPE html><html>").contains("begins with '<!DOCTYPE html><'"));
        assert!(error(b"").contains("empty file"));
        assert!(error(b"8BPS\0\x01\0\0\0\0").contains("found a Photoshop file"));
        // The first entry of a DNG: NewSubfileType, a smaller copy.
        let tiff = encoded(&picture(), ImageFormat::Tiff);
        assert!(Photo::decode(&tiff).is_ok());
        let raw = b"II*\0\x08\0\0\0\x01\0\xfe\0\x04\0\x01\0\0\0\x01\0\0\0\0\0\0\0";
        assert!(error(raw).contains("found a raw photo, of which only"), "{}", error(raw));
        assert_eq!(kind(b"BMX,left_eye_x,left_eye_y"), Kind::Other);
    }
}
