//! Finds the keypoints of the faces in a picture, as the page does:
//!
//!     cargo run --release --example detect_picture [PICTURE]
//!
//! Without a picture it draws a face and prints how far off the points are: less than 3 % of the distance of the outer eye corners.

use face96::data::photo::Photo;
use face96::infer::{Detector, Finder};
use face96::picture::{grey_from_rgba, Gray};
use face96::synthetic::SyntheticFace;
use face96::track::{Frame, Luma, Settings, Tracker, FACE_HEADER, MAX_FACES};
use face96::train::metrics::Score;
use face96::weights::Weights;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pkg/weights");
    let weights = Weights::read(&folder.join("compact.safetensors"))?;
    let schema = &weights.meta.schema;
    let mut net = Detector::new(&weights)?;
    let mut finder = Finder::new(&Weights::read(&folder.join("finder.safetensors"))?)?;

    let scene = SyntheticFace::new(5).animate(640, 480, 0.);
    let picture = match std::env::args().nth(1) {
        Some(path) => Photo::read(Path::new(&path))?.grey(),
        None => {
            let mut grey = vec![0.; scene.width * scene.height];
            grey_from_rgba(&scene.rgba, &mut grey)?;
            Gray::new(scene.width, scene.height, grey.into_iter().map(|v| v as u8).collect())?
        }
    };

    let luma = Luma::new(&picture.pixels, picture.width, picture.height, picture.width, true)?;
    let settings = Settings { max_faces: MAX_FACES, ..Settings::default() };
    let mut tracker = Tracker::new(&weights.meta, net.has_presence(), settings);
    let keypoints = |crop: &[f32]| Ok(net.detect_grey(crop)?.to_vec());
    let faces = tracker.see(&luma, Frame::Still, keypoints, Some(&mut finder))?;
    for face in faces.chunks_exact(FACE_HEADER + 3 * schema.len()) {
        println!("a face of {:.0} pixels, score {:.2}", face[4], face[1]);
        let points: Vec<[f32; 2]> = face[FACE_HEADER..].chunks_exact(3).map(|p| [p[0], p[1]]).collect();
        for (name, [x, y]) in schema.keypoints.iter().zip(&points) {
            println!("{name:>26} {x:7.1} {y:7.1}");
        }
        if std::env::args().len() == 1 {
            let score = Score::new(schema, std::iter::once((&scene.keypoints[..], &points[..])));
            println!("off by {:.2} % of the eye distance", score.nme_pct);
            assert!(score.nme_pct < 3.);
        }
    }
    assert!(!faces.is_empty() || std::env::args().len() > 1, "the drawn face was not found");
    Ok(())
}
