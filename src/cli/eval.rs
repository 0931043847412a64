//! `eval`: the error of nets on labelled faces, given the box, given a rough box, or given the whole picture.

use super::files::{print, say};
use super::nets::{self, Nets, Page};
use super::{grey, DataArgs};
use anyhow::{bail, Context, Result};
use clap::Args;
use face96::data::augment::{depth, Augment, Batch};
use face96::data::{scenes, Dataset, Face, Split};
use face96::geometry::{Affine, CropBox};
use face96::infer::{Finder, Found, FOUND_SCORE};
use face96::nets::{HEATMAP_CELL, SIDE};
use face96::picture::Gray;
use face96::schema::{kaggle_of_ibug, Schema};
use face96::track::{whole_frame, Settings};
use face96::train::metrics::{places_in_cells, spread, Score};
use face96::train::report;
use face96::weights::Weights;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct EvalArgs {
    /// Weights files, or run folders; specialists share the keypoints among them
    #[arg(long, required = true, num_args = 1..)]
    weights: Vec<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    /// train, val or test (val if the data has no test split)
    #[arg(long, default_value = "val")]
    split: Split,
    /// Print JSON only
    #[arg(long)]
    json: bool,
    /// Write the cumulative error curve to this SVG
    #[arg(long)]
    curve: Option<PathBuf>,
    /// Write how often keypoints are right by their confidence to this SVG
    #[arg(long)]
    reliability: Option<PathBuf>,
    /// Write a sheet of the worst predictions to this PNG or JPEG
    #[arg(long)]
    worst: Option<PathBuf>,
    /// Also start from boxes that are off by 15 % or 20 degrees, and crop anew around the keypoints, as tracking does
    #[arg(long)]
    boxes_off: bool,
    /// Also look through eight shifted crops, and print what the mean of all looks gains over one: nothing if points follow the face
    #[arg(long)]
    shifted: bool,
    /// With a finder: the net whose keypoints confirm its boxes, as on the page
    #[arg(long)]
    keypoints: Option<PathBuf>,
}

/// Predictions on labelled faces, and their errors.
pub(super) struct Evaluation<'a> {
    schema: &'a Schema,
    /// The predicted keypoints' indices in the schema.
    places: Vec<usize>,
    faces: Vec<&'a Face>,
    found: Vec<nets::Prediction>,
    pub(super) score: Score,
}

/// Applies nets to those of `faces` that show a face; the labels may have more keypoints than the nets predict.
pub(super) fn evaluate<'a>(nets: &Nets, schema: &'a Schema, faces: &[&'a Face]) -> Result<Evaluation<'a>> {
    let places = schema.find(&nets.schema.keypoints)?;
    // Skip faces that have no label for any of these keypoints.
    let labelled = |f: &&Face| f.is_face() && places.iter().any(|k| f.points[*k][0].is_finite());
    let faces: Vec<&Face> = faces.iter().copied().filter(labelled).collect();
    let found = nets.detect(&faces.par_iter().map(|f| f.crop()).collect::<Vec<_>>())?;
    let mut evaluation = Evaluation { schema, places, faces, found, score: Score::new(schema, std::iter::empty()) };
    evaluation.score = evaluation.of(|_| true);
    Ok(evaluation)
}

impl Evaluation<'_> {
    /// The score of some of the faces.
    fn of(&self, wanted: impl Fn(&Face) -> bool) -> Score {
        let pairs = self.faces.iter().zip(&self.found).filter(|(f, _)| wanted(f));
        Score::of(self.schema, &self.places, pairs.map(|(f, p)| (f.points.as_slice(), p.points.as_slice())))
    }

    /// The score of Kaggle's 15 keypoints, computed from labels and predictions of iBUG's 68.
    fn kaggle(&self) -> Score {
        let schema = Schema::kaggle();
        let pairs =
            self.faces.iter().zip(&self.found).map(|(f, p)| (kaggle_of_ibug(&f.points), kaggle_of_ibug(&p.points)));
        let pairs: Vec<_> = pairs.collect();
        Score::new(&schema, pairs.iter().map(|(label, found)| (label.as_slice(), found.as_slice())))
    }

    /// Errors by keypoint, of all together, by source if there are several, and by group if the file names tell it.
    pub(super) fn table(&self) -> String {
        let names: Vec<&String> = self.places.iter().map(|k| &self.schema.keypoints[*k]).collect();
        let mut text = report::table(&names, &self.score);
        let sources: BTreeSet<&str> = self.faces.iter().map(|f| f.source.as_str()).collect();
        for source in sources.iter().filter(|_| sources.len() > 1) {
            text += &format!("{source:>16}: {}\n", report::summary(&self.of(|f| f.source == *source)));
        }
        let all: BTreeSet<String> = self.faces.iter().flat_map(|f| groups(f)).collect();
        for group in all {
            text += &format!("{group:>16}: {}\n", report::summary(&self.of(|f| groups(f).contains(&group))));
        }
        text
    }
}

/// Age, sex and origin from UTKFace's file names (`AGE_SEX_ORIGIN_DATE.jpg`, in that data set's words); empty for
/// faces of other sources.
fn groups(face: &Face) -> Vec<String> {
    let name = face.name.rsplit('/').next().unwrap_or_default();
    let mut numbers = name.split('_').map_while(|n| n.parse::<usize>().ok());
    let (Some(age), Some(sex), Some(origin)) = (numbers.next(), numbers.next(), numbers.next()) else {
        return vec![];
    };
    let (sexes, origins) = (["male", "female"], ["White", "Black", "Asian", "Indian", "other"]);
    match (face.source.as_str(), sexes.get(sex), origins.get(origin)) {
        ("utk", Some(sex), Some(origin)) => {
            let years = match age {
                0..=4 => "age 00 to 04",
                5..=12 => "age 05 to 12",
                13..=19 => "age 13 to 19",
                20..=39 => "age 20 to 39",
                40..=59 => "age 40 to 59",
                60..=79 => "age 60 to 79",
                _ => "age 80 and more",
            };
            vec![years.into(), format!("sex {sex}"), format!("origin {origin}")]
        }
        _ => vec![],
    }
}

pub(super) fn eval(args: EvalArgs) -> Result<()> {
    let nets = Nets::load(&args.weights)?;
    let mut from = args.data.clone();
    from.all_68 |= nets.schema.is_ibug();
    let data = from.load_for(if nets.finder().is_some() { "finder" } else { "compact" })?;
    let outputs = [&args.curve, &args.reliability, &args.worst];
    super::guard(outputs.into_iter().flatten(), data.files.iter().chain(&nets.files))?;
    let faces: Vec<&Face> = data.split(args.split, nets.seed()).into_iter().map(|i| &data.faces[i]).collect();
    if let Some(finder) = nets.finder() {
        let keypoints = args.keypoints.map(|path| Nets::load(&[path])).transpose()?;
        return eval_finder(finder, keypoints.as_ref(), &data, &faces, args.json);
    }
    let named = |paths: &[PathBuf]| paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
    let evaluation = evaluate(&nets, &data.schema, &faces).with_context(|| named(&args.weights))?;
    let score = &evaluation.score;
    if score.n == 0 {
        bail!("{}: no labelled face to evaluate on", args.data.data.as_deref().unwrap_or("synthetic"));
    }
    if let Some(path) = &args.curve {
        super::write_output(path, report::cumulative_error(&score.each)?.as_bytes())?;
    }
    if let Some(path) = &args.worst {
        let mut order: Vec<usize> = (0..score.each.len()).collect();
        order.sort_by(|a, b| score.each[*b].total_cmp(&score.each[*a]));
        let cell = |i: &usize| {
            let face = evaluation.faces[*i];
            (grey(&face.crop()), face.points.clone(), evaluation.found[*i].points.clone())
        };
        report::write_picture(path, &report::sheet(&order.iter().take(48).map(cell).collect::<Vec<_>>(), 8, 2))?;
    }
    let said = nets.confidences(&data.schema, &evaluation.faces, &evaluation.found)?;
    if let Some(path) = &args.reliability {
        if said.is_empty() {
            bail!("{}: no confidences of its keypoints, so no curve of them", named(&args.weights));
        }
        super::write_output(path, report::reliability_curve(&said)?.as_bytes())?;
    }
    if args.json {
        say(serde_json::to_string(&score)?)?;
        return Ok(());
    }
    print(evaluation.table())?;
    if nets.schema.is_ibug() {
        say(format!("Kaggle's 15 keypoints of these 68: {}", report::summary(&evaluation.kaggle())))?;
    }
    print(report::reliability(&said))?;
    if nets.weights().iter().all(|w| w.meta.config.has_heatmaps()) {
        print(between_cells(&evaluation))?;
        if args.shifted {
            print(shifted(&nets, &evaluation)?)?;
        }
    }
    // Presence is only meaningful where the net was trained with confidences.
    if !said.is_empty() {
        let all = data.split(args.split, nets.seed());
        let (labelled, others): (Vec<usize>, Vec<usize>) = all.into_iter().partition(|i| data.faces[*i].is_face());
        let spoil = Augment { spoil: 1., ..Augment::NONE };
        // One generator for every few faces, so that the result does not depend on the number of threads.
        let of_part = |(part, faces): (usize, &[usize])| {
            let mut rng = ChaCha8Rng::seed_from_u64(nets.seed());
            rng.set_stream(part as u64);
            let pixels = Batch::make(&data, faces, &spoil, &mut rng).pixels;
            pixels.chunks_exact(SIDE * SIDE).map(<[f32]>::to_vec).collect::<Vec<_>>()
        };
        let spoiled = labelled.par_chunks(256).enumerate().flat_map(of_part).collect::<Vec<_>>();
        let others: Vec<_> = others.into_iter().map(|i| data.faces[i].crop()).collect();
        // Training covers faces with plain grey and with pieces of its own pictures; it has not seen these.
        let faces = evaluation.faces.par_iter().enumerate().filter(|_| !others.is_empty());
        let hidden: Vec<_> = faces.map(|(i, f)| half_hidden(f.crop(), &others[i % others.len()], i)).collect();
        let least = Settings::default().min_score;
        let count = |found: &[nets::Prediction]| {
            format!("{} of {}", found.iter().filter(|f| f.presence >= least).count(), found.len())
        };
        say(format!(
            "presence of {least} or more: {} faces, {} half or wholly covered or mostly outside, {} with one half behind another picture, \
             {} pictures without one",
            count(&evaluation.found),
            count(&nets.detect(&spoiled)?),
            count(&nets.detect(&hidden)?),
            count(&nets.detect(&others)?),
        ))?;
    }
    if args.boxes_off {
        print(boxes_off(&nets, &evaluation)?)?;
    }
    Ok(())
}

/// Where labels and predictions lie in heatmap cells; both are distributed alike if no point sticks to the centre of a cell.
fn between_cells(evaluation: &Evaluation) -> String {
    let faces = evaluation.faces.iter();
    let labels = places_in_cells(faces.flat_map(|f| evaluation.places.iter().map(|k| f.points[*k])));
    let found = places_in_cells(evaluation.found.iter().flat_map(|f| f.points.iter().copied()));
    format!(
        "places in a heatmap cell, eighths of both axes: {found:?}, largest over smallest {:.2} (labels {:.2})\n",
        spread(&found),
        spread(&labels),
    )
}

/// The gain of the mean of nine looks, through crops shifted by thirds of a heatmap cell, over one look.
fn shifted(nets: &Nets, evaluation: &Evaluation) -> Result<String> {
    let third = HEATMAP_CELL / 3.;
    let shifts = [-third, 0., third].into_iter().flat_map(|dx| [-third, 0., third].map(|dy| [dx, dy]));
    let mut mean: Vec<Vec<[f32; 2]>> = evaluation.found.iter().map(|f| f.points.clone()).collect();
    for [dx, dy] in shifts.filter(|shift| *shift != [0.; 2]) {
        // Maps the shifted crop's pixels to those of the face's crop, and on to the picture.
        let shift = Affine::translation(dx, dy);
        let crop = |f: &&Face| f.picture.crop(shift.then(f.to_picture), SIDE);
        let found = nets.detect(&evaluation.faces.par_iter().map(crop).collect::<Vec<_>>())?;
        for (sum, point) in mean.iter_mut().flatten().zip(found.iter().flat_map(|f| &f.points)) {
            let [x, y] = shift.apply(*point);
            *sum = [sum[0] + x, sum[1] + y];
        }
    }
    mean.iter_mut().flatten().for_each(|p| *p = p.map(|v| v / 9.));
    let pairs = evaluation.faces.iter().zip(&mean).map(|(f, p)| (f.points.as_slice(), p.as_slice()));
    let nine = Score::of(evaluation.schema, &evaluation.places, pairs).nme_pct;
    let one = evaluation.score.nme_pct;
    Ok(format!(
        "mean of nine looks through crops shifted by thirds of a cell: NME {nine:.3} %, one look {one:.3} %, {:.1} % less\n",
        100. * (1. - nine / one),
    ))
}

/// A crop whose left, right, upper or lower half, according to `side`, is taken from another one.
fn half_hidden(mut crop: Vec<f32>, other: &[f32], side: usize) -> Vec<f32> {
    for (i, (p, other)) in crop.iter_mut().zip(other).enumerate() {
        if depth(i % SIDE, i / SIDE, side % 4) < SIDE / 2 {
            *p = *other;
        }
    }
    crop
}

/// Errors of a box: shift in x and in y in sides of the box, scale, roll in degrees.
const BOXES_OFF: [[f32; 4]; 9] = [
    [0., 0., 1., 0.],
    [0.15, 0., 1., 0.],
    [-0.15, 0., 1., 0.],
    [0., 0.15, 1., 0.],
    [0., -0.15, 1., 0.],
    [0., 0., 1.15, 0.],
    [0., 0., 0.85, 0.],
    [0., 0., 1., 20.],
    [0., 0., 1., -20.],
];

/// Number of looks from a wrong box, after which the crop stands still.
const LOOKS: usize = 4;

/// The mean distance between the points of two predictions, in units.
fn apart(a: &[[f32; 2]], b: &[[f32; 2]], unit: f32) -> f64 {
    let far = |(a, b): (&[f32; 2], &[f32; 2])| f64::from((a[0] - b[0]).hypot(a[1] - b[1]));
    a.iter().zip(b).map(far).sum::<f64>() / a.len() as f64 / f64::from(unit)
}

/// The error after each look when starting from a wrong box, and how far the last look still moves the points.
fn boxes_off(nets: &Nets, evaluation: &Evaluation) -> Result<String> {
    let faces = &evaluation.faces;
    let inverses = faces.iter().map(|f| f.to_picture.inverse().context("a crop without a side"));
    let inverses = inverses.collect::<Result<Vec<_>>>()?;
    let mut text = String::new();
    for [dx, dy, scale, roll] in BOXES_OFF {
        let (side, middle) = (SIDE as f32, (SIDE as f32 - 1.) / 2.);
        let wrong =
            CropBox { x: middle + dx * side, y: middle + dy * side, size: scale * side, roll: roll.to_radians() };
        // Maps the wrong crop's pixels to those of the face's own crop, and on to the picture.
        let wrong = wrong.crop_to_frame(SIDE);
        let mut views: Vec<nets::View> = faces.iter().map(|f| (&f.picture, wrong.then(f.to_picture))).collect();
        let (mut nme, mut failures, mut moved) = (Vec::new(), 0., 0.);
        let mut last: Vec<Vec<[f32; 2]>> = Vec::new();
        for _ in 0..LOOKS {
            let found = nets.look(&views)?;
            for (view, found) in views.iter_mut().zip(&found) {
                view.1 = nets.crop_around(&found.points).context("these weights have no mean shape to crop by")?;
            }
            let in_crop = |(found, inverse): (&nets::Prediction, &Affine)| -> Vec<_> {
                found.points.iter().map(|p| inverse.apply(*p)).collect()
            };
            let now: Vec<Vec<[f32; 2]>> = found.iter().zip(&inverses).map(in_crop).collect();
            let pairs = faces.iter().zip(&now).map(|(f, now)| (f.points.as_slice(), now.as_slice()));
            let score = Score::of(evaluation.schema, &evaluation.places, pairs);
            nme.push(format!("{:.2}", score.nme_pct));
            failures = score.failure_pct;
            let steps = faces.iter().zip(now.iter().zip(&last));
            let steps = steps.map(|(f, (a, b))| apart(a, b, evaluation.schema.unit(&f.points)));
            moved = 100. * steps.sum::<f64>() / faces.len() as f64;
            last = now;
        }
        text += &format!(
            "box off by {:3.0} % in x, {:3.0} % in y, {:3.0} % in size, {roll:3.0} degrees: NME {} % after 1 to {LOOKS} looks, \
             failures {failures:.2} %; the last look moves points by {moved:.2} %\n",
            100. * dx,
            100. * dy,
            100. * (scale - 1.),
            nme.join(", "),
        );
    }
    Ok(text)
}

/// On whole pictures: the share of faces found, and of pictures without a face in which one was "found".
fn eval_finder(
    weights: &Weights,
    keypoints: Option<&Nets>,
    data: &Dataset,
    scenes: &[&Face],
    json: bool,
) -> Result<()> {
    /// Shown beside the score that the product uses, to help in choosing another.
    const SCORES: [f32; 6] = [FOUND_SCORE, 0.3, 0.4, 0.5, 0.6, 0.7];
    let mut finder = Finder::new(weights)?;
    let (mut faces, mut others, mut overlap) = (0usize, 0usize, 0f64);
    let (mut hits, mut false_alarms) = ([0usize; SCORES.len()], [0usize; SCORES.len()]);
    for scene in scenes {
        let crop = scene.crop();
        faces += usize::from(scene.is_face());
        others += usize::from(!scene.is_face());
        for (i, score) in SCORES.into_iter().enumerate() {
            finder.least_score = score;
            let boxes: Vec<CropBox> = finder.find_grey(&crop)?.iter().map(|b| b.square()).collect();
            let best = label_of(scene).map(|label| best_overlap(&label, &boxes));
            hits[i] += usize::from(best.is_some_and(|best| best >= 0.5));
            overlap += if i == 0 { f64::from(best.unwrap_or(0.)) } else { 0. };
            false_alarms[i] += usize::from(best.is_none() && !boxes.is_empty());
        }
    }
    finder.least_score = FOUND_SCORE;
    let views = if json { String::new() } else { views(weights, keypoints, scenes)? };
    let pct = |n: usize, of: usize| 100. * n as f64 / of.max(1) as f64;
    let (found, wrong, iou) = (pct(hits[0], faces), pct(false_alarms[0], others), overlap / faces.max(1) as f64);
    let both = keypoints.map(|net| with_keypoints(&mut finder, net, scenes)).transpose()?;
    let looks = looks_without_face(&mut finder, keypoints, scenes)?;
    let both =
        both.map(|[hits, false_alarms, second]| [pct(hits, faces), pct(false_alarms, others), pct(second, faces)]);
    if json {
        let mut figures = serde_json::json!({ "n": faces, "found_pct": found, "mean_iou": iou, "negatives": others, "false_pct": wrong });
        figures["looks_without_face"] =
            serde_json::json!({ "n": looks[0], "false": looks[1], "false_with_keypoints": looks[2] });
        if let Some([found, wrong, second]) = both {
            figures["with_keypoints"] =
                serde_json::json!({ "found_pct": found, "false_pct": wrong, "second_pct": second });
        }
        say(figures)?;
        return Ok(());
    }
    say(format!("{faces} faces: {found:.2} % found (IoU >= 0.5), mean IoU {iou:.3}"))?;
    say(format!("{others} pictures without a face: {wrong:.2} % with a false one"))?;
    for i in 1..SCORES.len() {
        let (found, wrong) = (pct(hits[i], faces), pct(false_alarms[i], others));
        say(format!("at a score of {:.1}: {found:6.2} % found, {wrong:6.2} % false", SCORES[i]))?;
    }
    print(format!("{views}{}", by_group(&mut finder, data)?))?;
    let [n, by_finder, by_both] = looks;
    say(format!("{n} looks without a face, pieces of these pictures: {by_finder} with a false one"))?;
    if keypoints.is_some() {
        say(format!("the same with the keypoint net: {by_both} with a false one"))?;
    }
    if let Some([found, wrong, second]) = both {
        say(format!(
            "with the keypoint net: {found:.2} % found, {wrong:.2} % false; another face in {second:.2} % of the pictures with one"
        ))?;
    }
    Ok(())
}

/// Scenes composed from each face that is kept aside.
const COMPOSED: usize = 4;

/// On the faces kept aside: shares of faces found in composed scenes, in one look, by the groups in the file names.
fn by_group(finder: &mut Finder, data: &Dataset) -> Result<String> {
    let mut counts: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for (i, face) in data.faces.iter().enumerate().filter(|(_, f)| f.tight && f.split == Some(Split::Test)) {
        let groups = groups(face);
        for look in 0..COMPOSED {
            let (pixels, boxes) =
                scenes::compose(data, i, &mut ChaCha8Rng::seed_from_u64((COMPOSED * i + look) as u64));
            // The first box is this face's; there is none if it did not fit.
            let Some(label) = boxes.first() else { continue };
            let found: Vec<CropBox> = finder.find_grey(&pixels)?.iter().map(|b| b.square()).collect();
            let hit = usize::from(best_overlap(label, &found) >= 0.5);
            for group in groups.iter().cloned().chain(["all".to_string()]) {
                let [hits, all] = counts.entry(group).or_default();
                (*hits, *all) = (*hits + hit, *all + 1);
            }
        }
    }
    let line = |(group, [hits, all]): (String, [usize; 2])| {
        format!("composed scenes, {group}: {:.1} % of {all} found\n", 100. * hits as f64 / all as f64)
    };
    Ok(counts.into_iter().map(line).collect())
}

/// Pieces cut out of each picture, away from its face and the face's surroundings.
const PIECES: usize = 3;

/// Looks at pieces of pictures without a face: the number of pieces, the number in which the finder alone found a face, and the number in
/// which finder and keypoint net together found one.
fn looks_without_face(finder: &mut Finder, keypoints: Option<&Nets>, scenes: &[&Face]) -> Result<[usize; 3]> {
    let mut page = keypoints.map(|nets| Page::new(nets, PAGE_FACES)).transpose()?;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut counts = [0; 3];
    for scene in scenes {
        for square in (0..PIECES).filter_map(|_| scenes::beside(scene, &mut rng)).collect::<Vec<_>>() {
            let side = (square.size as usize).max(SIDE);
            let pixels = scene.picture.crop(square.crop_to_frame(side), side);
            let piece = Gray::new(side, side, pixels.iter().map(|p| p.round() as u8).collect())?;
            let frame = whole_frame(side as f32, side as f32).crop_to_frame(SIDE);
            counts[0] += 1;
            counts[1] += usize::from(!finder.find_grey(&piece.crop(frame, SIDE))?.is_empty());
            if let Some(page) = &mut page {
                counts[2] += usize::from(!page.boxes(&piece, finder)?.is_empty());
            }
        }
    }
    Ok(counts)
}

/// Largest number of faces that the page looks for.
const PAGE_FACES: usize = 4;

/// The side of the frames that [`views`] shows to finder and keypoint net together.
const VIEW: usize = 384;

/// Shares of faces found at a given size and roll in a frame composed around them: by the finder in one look, and with a keypoint net as
/// on the page. A picture without a face fills the rest of the frame.
fn views(finder: &Weights, keypoints: Option<&Nets>, scenes: &[&Face]) -> Result<String> {
    let side = if keypoints.is_some() { VIEW } else { SIDE };
    let background = |s: &&Face| {
        let (w, h) = (s.picture.width as f32, s.picture.height as f32);
        s.picture.crop(CropBox { size: w.min(h), ..whole_frame(w, h) }.crop_to_frame(side), side)
    };
    let backgrounds: Vec<Vec<f32>> = scenes.iter().filter(|s| !s.is_face()).map(background).collect();
    let whole = whole_frame(side as f32, side as f32).crop_to_frame(SIDE);
    // The number of faces that one look found, and that the page found.
    let count = |share: f32, degrees: f32| -> Result<[usize; 2]> {
        let (mut finder, mut page) =
            (Finder::new(finder)?, keypoints.map(|nets| Page::new(nets, PAGE_FACES)).transpose()?);
        let mut hits = [0; 2];
        for (i, scene) in scenes.iter().filter(|s| s.is_face()).enumerate() {
            let corners = corners(scene);
            let face = CropBox::of_corners(&corners);
            let size = face.size / share;
            // Seven places in the frame; at the farthest, the face's centre is three quarters of the way to the edge.
            let place = |n: usize| (n % 7) as f32 / 6. - 0.5;
            let (dx, dy) = (0.75 * (1. - share) * place(i) * size, 0.75 * (1. - share) * place(i / 7) * size);
            let view = CropBox { x: face.x + dx, y: face.y + dy, size, roll: degrees.to_radians() };
            let map = view.crop_to_frame(side);
            let inverse = map.inverse().context("a frame without a side")?;
            let mut frame = scene.picture.crop(map, side);
            if !backgrounds.is_empty() {
                for (k, (pixel, other)) in frame.iter_mut().zip(&backgrounds[i % backgrounds.len()]).enumerate() {
                    if !scene.picture.contains(map.apply([(k % side) as f32, (k / side) as f32])) {
                        *pixel = *other;
                    }
                }
            }
            let label = CropBox::of_corners(&corners.iter().map(|p| inverse.apply(*p)).collect::<Vec<_>>());
            let frame = Gray::new(side, side, frame.iter().map(|p| p.round() as u8).collect())?;
            let in_frame = |b: &Found| CropBox::of_corners(&b.square().corners().map(|p| whole.apply(p)));
            let boxes: Vec<_> = finder.find_grey(&frame.crop(whole, SIDE))?.iter().map(in_frame).collect();
            hits[0] += usize::from(best_overlap(&label, &boxes) >= 0.5);
            if let Some(page) = &mut page {
                hits[1] += usize::from(best_overlap(&label, &page.boxes(&frame, &mut finder)?) >= 0.5);
            }
        }
        Ok(hits)
    };
    let faces = scenes.iter().filter(|s| s.is_face()).count().max(1);
    let mut text = String::new();
    for share in [0.12f32, 0.25, 0.5, 0.95] {
        let turns = [-45f32, -20., 0., 20., 45.];
        let hits = turns.par_iter().map(|degrees| count(share, *degrees)).collect::<Result<Vec<_>>>()?;
        for (kind, by) in ["", ", with the keypoint net"].iter().enumerate().take(1 + usize::from(keypoints.is_some()))
        {
            let shares: Vec<String> =
                hits.iter().map(|hits| format!("{:.1}", 100. * hits[kind] as f64 / faces as f64)).collect();
            text += &format!(
                "faces of {:2.0} % of the frame, turned by -45, -20, 0, 20, 45 degrees{by}: {} % found\n",
                100. * share,
                shares.join(", ")
            );
        }
    }
    Ok(text)
}

/// The largest overlap of a box with any of some others.
fn best_overlap(label: &CropBox, boxes: &[CropBox]) -> f32 {
    boxes.iter().map(|b| b.iou(label)).fold(0., f32::max)
}

/// The corners of a scene's face box, in pixels of its picture.
fn corners(scene: &Face) -> Vec<[f32; 2]> {
    scene.points.iter().map(|p| scene.to_picture.apply(*p)).collect()
}

/// The box of a scene's face in pixels of the letterboxed frame; `None` if it has none.
fn label_of(scene: &Face) -> Option<CropBox> {
    scene.is_face().then(|| CropBox::of_corners(&scene.points))
}

/// For finder and keypoint net together: faces found, pictures without a face in which one was found, and pictures with one labelled
/// face in which another was found.
fn with_keypoints(finder: &mut Finder, nets: &Nets, scenes: &[&Face]) -> Result<[usize; 3]> {
    let mut page = Page::new(nets, PAGE_FACES)?;
    let [mut hits, mut false_alarms, mut others] = [0; 3];
    for scene in scenes {
        let boxes = page.boxes(&scene.picture, finder)?;
        let label = scene.is_face().then(|| CropBox::of_corners(&corners(scene)));
        let best = label.map(|label| best_overlap(&label, &boxes));
        hits += usize::from(best.is_some_and(|best| best >= 0.5));
        false_alarms += usize::from(best.is_none() && !boxes.is_empty());
        others += usize::from(boxes.len() > usize::from(best.is_some_and(|best| best >= 0.5)) && best.is_some());
    }
    Ok([hits, false_alarms, others])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_from_utkfaces_names_only() {
        let mut face = face96::data::load("synthetic:1", Default::default()).unwrap().faces.remove(0);
        face.name = "img/26_1_3_20170112213500903.jpg".into();
        assert!(groups(&face).is_empty());
        face.source = "utk".into();
        assert_eq!(groups(&face), ["age 20 to 39", "sex female", "origin Indian"]);
        for name in ["img/26_1_20170112213500903.jpg", "img/26_2_0_2017.jpg", "face.jpg", ""] {
            face.name = name.into();
            assert!(groups(&face).is_empty(), "{name}");
        }
    }
}
