//! The shipped keypoint nets between the middles of heatmap cells, on drawn faces: a net whose loss takes the spread of a point
//! between two cells for doubt answers with the middles of cells, and its points move in steps.

use face96::data::{load, Face, Options};
use face96::geometry::Affine;
use face96::infer::Detector;
use face96::nets::{HEATMAP_CELL, SIDE};
use face96::train::metrics::{places_in_cells, spread};
use face96::weights::Weights;
use std::path::Path;

/// The shipped nets that have heatmaps.
fn shipped() -> Vec<(String, Detector)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pkg/weights");
    let nets = ["compact", "compact68"].map(|net| folder.join(format!("{net}.safetensors")));
    let read = |path: std::path::PathBuf| {
        (
            path.file_stem().unwrap().to_str().unwrap().to_string(),
            Detector::new(&Weights::read(&path).unwrap()).unwrap(),
        )
    };
    let found: Vec<_> = nets.into_iter().filter(|path| path.is_file()).map(read).collect();
    assert!(!found.is_empty());
    found
}

fn faces(count: usize) -> Vec<Face> {
    load(&format!("synthetic:{count}"), Options::default()).unwrap().faces
}

/// The keypoints in the pixels of the face's own crop, seen through one that is shifted by (dx, dy) of its pixels.
fn look(net: &mut Detector, face: &Face, [dx, dy]: [f32; 2]) -> Vec<[f32; 2]> {
    let shift = Affine::translation(dx, dy);
    let found = net.detect_grey(&face.picture.crop(shift.then(face.to_picture), SIDE)).unwrap();
    found[1..].chunks_exact(3).map(|p| shift.apply([p[0], p[1]])).collect()
}

#[test]
fn points_fall_as_often_between_the_middles_of_cells_as_on_them() {
    for (name, mut net) in shipped() {
        let bins = places_in_cells(faces(150).iter().flat_map(|face| look(&mut net, face, [0.; 2])));
        let spread = spread(&bins);
        println!("{name}: {bins:?}, largest over smallest {spread:.2}");
        assert!(spread <= 1.4, "{name}: {bins:?}");
    }
}

#[test]
fn nine_shifted_looks_gain_little_over_one() {
    for (name, mut net) in shipped() {
        if name != "compact" {
            continue; // Drawn faces have labels of Kaggle's points alone.
        }
        let [mut one, mut nine] = [0f64; 2];
        for face in faces(60) {
            let third = HEATMAP_CELL / 3.;
            let shifts = [-third, 0., third].into_iter().flat_map(|dx| [-third, 0., third].map(|dy| [dx, dy]));
            let looks: Vec<_> = shifts.map(|shift| look(&mut net, &face, shift)).collect();
            for (k, label) in face.points.iter().enumerate() {
                let far = |[x, y]: [f32; 2]| f64::from((x - label[0]).hypot(y - label[1]));
                let mean = [0, 1].map(|c| looks.iter().map(|look| look[k][c]).sum::<f32>() / 9.);
                one += looks.iter().map(|look| far(look[k])).sum::<f64>() / 9.;
                nine += far(mean);
            }
        }
        println!("{name}: nine looks averaged have {:.1} % less error than one", 100. * (1. - nine / one));
        assert!(nine >= 0.9 * one, "{name}: {nine} of {one}");
    }
}

#[test]
fn a_face_moved_by_a_tenth_of_a_pixel_moves_its_points_by_a_tenth() {
    for (name, mut net) in shipped() {
        // Sum of squares and count, of points inside of the face and of iBUG's jaw: where along it a point lies, a picture hardly says.
        let mut sums = [(0f64, 0); 2];
        for face in faces(12) {
            for axis in [0, 1] {
                // In the shifted crop's own pixels, from step to step.
                let steps = (0..40).map(|i| {
                    let mut shift = [0.; 2];
                    shift[axis] = 0.1 * i as f32;
                    let back = Affine::translation(-shift[0], -shift[1]);
                    look(&mut net, &face, shift).into_iter().map(|p| back.apply(p)[axis]).collect::<Vec<_>>()
                });
                let steps: Vec<_> = steps.collect();
                for pair in steps.windows(2) {
                    for (k, (a, b)) in pair[0].iter().zip(&pair[1]).enumerate() {
                        let (squares, n) = &mut sums[usize::from(name == "compact68" && k < 17)];
                        *squares += f64::from(a - b - 0.1).powi(2);
                        *n += 1;
                    }
                }
            }
        }
        let [inside, jaw] = sums.map(|(squares, n)| (squares / f64::from(n.max(1))).sqrt());
        println!(
            "{name}: steps of 0.1 px move points by 0.1 px with an rms error of {inside:.4} px, the jaw {jaw:.4} px"
        );
        // The net before had 0.061; the aim is 0.03, `compact` has 0.041.
        let most = if name == "compact" { 0.045 } else { 0.06 };
        assert!(inside <= most && jaw <= 0.15, "{name}: {inside} px, the jaw {jaw} px");
    }
}
