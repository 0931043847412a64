//! Pictures of a run: learning curves and the cumulative error curve as SVG, predictions on faces as PNG.

use super::metrics::Score;
use super::{Epoch, Loss};
use crate::error::{Error, Result};
use crate::geometry::Affine;
use crate::nets::SIDE;
use crate::picture::Gray;
use crate::weights::Calibration;
use image::{Rgb, RgbImage};
use plotters::prelude::*;
use std::path::Path;

const SIZE: (u32, u32) = (800, 480);

fn plot_error<E: std::fmt::Display>(e: E) -> Error {
    Error::Config(format!("plot: {e}"))
}

/// A line of a chart: its name, colour and points.
type ChartLine<'a> = (&'a str, RGBColor, Vec<(f64, f64)>);

/// A chart's title, the names of its axes, and their ranges.
struct ChartAxes<'a> {
    title: &'a str,
    names: [&'a str; 2],
    x: (f64, f64),
    y: (f64, f64),
}

/// Line charts, one below the other.
fn charts(charts: &[(ChartAxes, Vec<ChartLine>)]) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (SIZE.0, SIZE.1 * charts.len() as u32)).into_drawing_area();
        area.fill(&WHITE).map_err(plot_error)?;
        for (area, (axes, lines)) in area.split_evenly((charts.len(), 1)).iter().zip(charts) {
            draw(area, axes, lines)?;
        }
        area.present().map_err(plot_error)?;
    }
    Ok(svg)
}

fn draw(area: &DrawingArea<SVGBackend, plotters::coord::Shift>, axes: &ChartAxes, lines: &[ChartLine]) -> Result<()> {
    let ((left, right), (bottom, top)) = (axes.x, axes.y);
    let mut chart = ChartBuilder::on(area)
        .caption(axes.title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(left..right, bottom..top)
        .map_err(plot_error)?;
    let [x, y] = axes.names;
    chart.configure_mesh().x_desc(x).y_desc(y).light_line_style(WHITE).draw().map_err(plot_error)?;
    for (name, colour, points) in lines {
        let colour = *colour;
        // NaN and infinity cannot be drawn.
        let points = points.iter().copied().filter(|p| p.1.is_finite());
        let drawn = chart.draw_series(LineSeries::new(points, colour.stroke_width(2))).map_err(plot_error)?;
        drawn.label(*name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    // The legend goes to a corner where no line ends.
    let high = lines.iter().filter_map(|l| l.2.last()).all(|(_, end)| *end > bottom + 0.4 * (top - bottom));
    let corner = if high { SeriesLabelPosition::LowerRight } else { SeriesLabelPosition::UpperRight };
    let mut labels = chart.configure_series_labels();
    labels.position(corner).border_style(BLACK).background_style(WHITE).draw().map_err(plot_error)
}

fn chart(title: &str, x: &str, y: &str, range: (f64, f64), top: f64, lines: Vec<ChartLine>) -> Result<String> {
    charts(&[(ChartAxes { title, names: [x, y], x: range, y: (0., top) }, lines)])
}

/// `metrics.csv`: one line per epoch. The last three columns are the machine's speed; the others are the same in every run.
pub fn metrics_csv(history: &[Epoch]) -> String {
    let mut csv =
        String::from("epoch,train_loss,valid_rmse_px,valid_nme_pct,learning_rate,samples_per_second,seconds,waiting\n");
    for e in history {
        let figures = format!("{},{},{},{}", e.train_loss, e.valid_rmse_px, e.valid_nme_pct, e.learning_rate);
        csv += &format!("{},{figures},{:.1},{:.1},{:.3}\n", e.epoch, e.samples_per_second, e.seconds, e.waiting);
    }
    csv
}

/// The error of each keypoint and of all together, as lines of text.
pub fn table(names: &[&String], score: &Score) -> String {
    let mut text = format!("{:28} {:>7}\n", "keypoint", "NME %");
    for name in names {
        text += &format!("{name:28} {:7.2}\n", score.per_keypoint[*name]);
    }
    text + &format!("{}\n100 % is {}\n", summary(score), score.unit)
}

/// The error of all keypoints, in one line.
pub fn summary(score: &Score) -> String {
    let Score { n, rmse_px, nme_pct, failure_pct, .. } = score;
    let faces = if *n == 1 { "face" } else { "faces" };
    format!("{n} {faces}: RMSE {rmse_px:.3} px, NME {nme_pct:.2} %, failures {failure_pct:.2} %")
}

/// The highest value to show: the first epochs of a long run are far off, so the scale follows most of the run.
fn top(lines: &[ChartLine]) -> f64 {
    let mut heights: Vec<f64> =
        lines.iter().flat_map(|(_, _, l)| l.iter().map(|p| p.1)).filter(|h| h.is_finite()).collect();
    heights.sort_by(f64::total_cmp);
    heights.get(heights.len() * 9 / 10).copied().unwrap_or(1.).max(0.1) * 1.5
}

/// Validation RMSE and NME by epoch, with the training beside them: its error if the loss is one in pixels, otherwise the loss
/// itself in a chart below, because its unit differs.
///
/// # Errors
/// Only errors of the plotting library.
pub fn curves(history: &[Epoch], loss: Loss) -> Result<String> {
    let line = |f: &dyn Fn(&Epoch) -> f64| history.iter().map(|e| (e.epoch as f64, f(e))).collect::<Vec<_>>();
    let epochs = (1., history.len().max(2) as f64);
    let mut lines = vec![
        ("validation RMSE, px", RED, line(&|e| e.valid_rmse_px)),
        ("validation NME, %", BLUE, line(&|e| e.valid_nme_pct)),
    ];
    if loss == Loss::Mse {
        lines.push(("training RMSE, px", BLACK, line(&|e| e.train_loss.sqrt() * SIDE as f64 / 2.)));
    }
    let axes = ChartAxes { title: "Learning curves", names: ["epoch", "error"], x: epochs, y: (0., top(&lines)) };
    let mut all = vec![(axes, lines)];
    if loss != Loss::Mse {
        let training = line(&|e| e.train_loss);
        // A likelihood may be below 0; the first epochs of a long run would squeeze all others flat.
        let mut heights: Vec<f64> = training.iter().map(|p| p.1).filter(|h| h.is_finite()).collect();
        heights.sort_by(f64::total_cmp);
        let at = |share: usize| heights.get((heights.len() * share / 100).min(heights.len().saturating_sub(1)));
        let (low, high) = (at(0).copied().unwrap_or(0.), at(95).copied().unwrap_or(1.));
        let room = 0.1 * (high - low).max(0.1);
        let axes = ChartAxes { title: "Training", names: ["epoch", "loss"], x: epochs, y: (low - room, high + room) };
        all.push((axes, vec![("training loss", BLACK, training)]));
    }
    charts(&all)
}

/// Validation RMSE of several runs over the minutes of training.
///
/// # Errors
/// Only errors of the plotting library.
pub fn comparison(runs: &[(String, Vec<Epoch>)]) -> Result<String> {
    let colour = |i: usize| {
        let (r, g, b) = Palette99::pick(i).to_rgba().rgb();
        RGBColor(r, g, b)
    };
    let of = |history: &[Epoch]| history.iter().map(|e| (e.seconds / 60., e.valid_rmse_px)).collect::<Vec<_>>();
    let lines: Vec<ChartLine> =
        runs.iter().enumerate().map(|(i, (name, history))| (name.as_str(), colour(i), of(history))).collect();
    let end = lines.iter().filter_map(|l| Some(l.2.last()?.0)).fold(1e-3, f64::max);
    let top = top(&lines);
    chart("Learning curves", "minutes of training", "validation RMSE, px", (0., end), top, lines)
}

/// The share of faces whose NME is below each value up to 15 %.
///
/// # Errors
/// Only errors of the plotting library.
pub fn cumulative_error(each: &[f64]) -> Result<String> {
    let share = |e: f64| 100. * each.iter().filter(|v| **v <= e).count() as f64 / each.len().max(1) as f64;
    let points = (0..=150).map(|i| (f64::from(i) / 10., share(f64::from(i) / 10.))).collect();
    chart("Cumulative error", "NME, %", "faces, %", (0., 15.), 100., vec![("faces within", BLUE, points)])
}

/// A face of a sheet: the picture, and labels and predictions in its pixels.
pub type Cell = (Gray, Vec<[f32; 2]>, Vec<[f32; 2]>);

/// A sheet of faces at `zoom` times their size with labels (green, if there are any) and predictions (red), and a legend below.
pub fn sheet(faces: &[Cell], columns: usize, zoom: usize) -> RgbImage {
    let side = faces.first().map_or(1, |f| f.0.width.max(f.0.height)) * zoom;
    let columns = columns.min(faces.len()).max(1);
    let rows = faces.len().div_ceil(columns);
    let size = [(columns * side).max(LEGEND_WIDTH), rows * side + LEGEND_HEIGHT].map(|s| s as u32);
    let mut out = RgbImage::from_pixel(size[0], size[1], Rgb([255; 3]));
    for (i, (picture, labels, found)) in faces.iter().enumerate() {
        let (x0, y0) = ((i % columns * side) as f32, (i / columns * side) as f32);
        let cell = annotate(picture, zoom, labels, found);
        image::imageops::overlay(&mut out, &cell, x0 as i64, y0 as i64);
    }
    let y = (rows * side) as u32 + LEGEND_HEIGHT as u32 / 2;
    let predicted = faces.iter().any(|f| !f.2.is_empty());
    for (i, (name, colour)) in
        [("label", LABEL), ("prediction", FOUND)].into_iter().enumerate().take(1 + usize::from(predicted))
    {
        let x = 12 + 66 * i as u32;
        dot(&mut out, [x as f32, y as f32], 4., colour);
        for (n, letter) in name.chars().enumerate() {
            write_letter(&mut out, x + 9 + 6 * n as u32, y - 4, letter);
        }
    }
    out
}

/// Green of labels and red of predictions.
const LABEL: [u8; 3] = [60, 220, 90];
const FOUND: [u8; 3] = [255, 60, 60];

const LEGEND_HEIGHT: usize = 20;
const LEGEND_WIDTH: usize = 168;

/// The letters of the legend, 5 x 9 pixels, one bit per pixel; a font would be larger than the program's nets.
const LETTERS: [(char, [u8; 9]); 12] = [
    ('a', [0, 0, 14, 1, 15, 17, 15, 0, 0]),
    ('b', [16, 16, 30, 17, 17, 17, 30, 0, 0]),
    ('c', [0, 0, 14, 17, 16, 17, 14, 0, 0]),
    ('d', [1, 1, 15, 17, 17, 17, 15, 0, 0]),
    ('e', [0, 0, 14, 17, 31, 16, 14, 0, 0]),
    ('i', [4, 0, 12, 4, 4, 4, 14, 0, 0]),
    ('l', [12, 4, 4, 4, 4, 4, 14, 0, 0]),
    ('n', [0, 0, 30, 17, 17, 17, 17, 0, 0]),
    ('o', [0, 0, 14, 17, 17, 17, 14, 0, 0]),
    ('p', [0, 0, 30, 17, 17, 17, 30, 16, 16]),
    ('r', [0, 0, 22, 25, 16, 16, 16, 0, 0]),
    ('t', [8, 8, 28, 8, 8, 9, 6, 0, 0]),
];

fn write_letter(picture: &mut RgbImage, x0: u32, y0: u32, letter: char) {
    let rows = LETTERS.iter().find(|(l, _)| *l == letter).map_or([0; 9], |(_, rows)| *rows);
    for (y, row) in rows.into_iter().enumerate() {
        for x in (0..5).filter(|x| row >> (4 - x) & 1 == 1) {
            if let Some(pixel) = picture.get_pixel_mut_checked(x0 + x, y0 + y as u32) {
                *pixel = Rgb([40; 3]);
            }
        }
    }
}

/// A picture at `zoom` times its size with labels (green) and predictions (red).
pub fn annotate(picture: &Gray, zoom: usize, labels: &[[f32; 2]], found: &[[f32; 2]]) -> RgbImage {
    let z = zoom as f32;
    // Pixel centres: the centre of a zoomed pixel is at (zoom - 1) / 2.
    let to_zoomed = Affine::similarity(z, 0.).then(Affine::translation((z - 1.) / 2., (z - 1.) / 2.));
    let mut out = RgbImage::from_fn((picture.width * zoom) as u32, (picture.height * zoom) as u32, |x, y| {
        let v = picture.sample((x as f32 + 0.5) / z - 0.5, (y as f32 + 0.5) / z - 0.5) as u8;
        Rgb([v, v, v])
    });
    let radius = (1.1 * z).max(2.);
    for (points, colour, radius) in [(labels, LABEL, radius), (found, FOUND, radius / 1.5)] {
        for p in points.iter().filter(|p| p[0].is_finite()) {
            dot(&mut out, to_zoomed.apply(*p), radius, colour);
        }
    }
    out
}

fn dot(picture: &mut RgbImage, [cx, cy]: [f32; 2], radius: f32, colour: [u8; 3]) {
    let reach = radius.ceil() as i64;
    for dy in -reach..=reach {
        for dx in -reach..=reach {
            let (x, y) = (cx.round() as i64 + dx, cy.round() as i64 + dy);
            let cover = (radius + 0.5 - (x as f32 - cx).hypot(y as f32 - cy)).clamp(0., 1.);
            if cover > 0. && x >= 0 && y >= 0 && x < i64::from(picture.width()) && y < i64::from(picture.height()) {
                let pixel = picture.get_pixel_mut(x as u32, y as u32);
                for (p, c) in pixel.0.iter_mut().zip(colour) {
                    *p = (f32::from(*p) + (f32::from(c) - f32::from(*p)) * cover) as u8;
                }
            }
        }
    }
}

/// Writes a picture in the format of the file's extension (PNG unless it is .jpg or .jpeg), completely or not at all.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn write_picture(path: &Path, picture: &RgbImage) -> Result<()> {
    let kind = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
    let format = match kind.as_str() {
        "jpg" | "jpeg" => image::ImageFormat::Jpeg,
        "png" => image::ImageFormat::Png,
        _ => {
            return Err(Error::Config(format!("{}: expected a name that ends in .png, .jpg or .jpeg", path.display())))
        }
    };
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).map_err(|e| Error::Config(format!("{}: {e}", path.display())))?;
    super::checkpoint::write_atomically(path, bytes.get_ref())
}

/// The scale and shift of the logits that turn confidences into probabilities (Platt 1999), fitted by Newton's method to uncalibrated
/// confidences and whether each keypoint was right. `None` if there is nothing to fit.
pub fn calibrate(said: &[(f32, bool)]) -> Option<Calibration> {
    if said.iter().all(|(_, right)| *right) || said.iter().all(|(_, right)| !*right) {
        return None;
    }
    let (mut scale, mut shift) = (1f64, 0f64);
    for _ in 0..50 {
        let (mut g, mut h) = ([0f64; 2], [1e-6, 0., 1e-6]);
        for (confidence, right) in said {
            let p = f64::from(confidence.clamp(1e-6, 1. - 1e-6));
            let logit = (p / (1. - p)).ln();
            let q = 1. / (1. + (-(scale * logit + shift)).exp());
            let (d, w) = (q - f64::from(u8::from(*right)), q * (1. - q));
            g = [g[0] + d * logit, g[1] + d];
            h = [h[0] + w * logit * logit, h[1] + w * logit, h[2] + w];
        }
        let det = h[0] * h[2] - h[1] * h[1];
        scale -= (h[2] * g[0] - h[1] * g[1]) / det;
        shift -= (h[0] * g[1] - h[1] * g[0]) / det;
    }
    (scale.is_finite() && shift.is_finite()).then_some(Calibration { scale: scale as f32, shift: shift as f32 })
}

/// For each tenth of the confidence that is not empty: mean confidence, number of keypoints, and how many of them are right.
fn by_confidence(said: &[(f32, bool)]) -> Vec<(f32, usize, usize)> {
    let of = |step: usize| {
        let inside = said.iter().filter(|(c, _)| ((c * 10.) as usize).min(9) == step);
        let (sum, n, right) =
            inside.fold((0., 0, 0), |(sum, n, right), (c, r)| (sum + c, n + 1, right + usize::from(*r)));
        (n > 0).then(|| (sum / n as f32, n, right))
    };
    (0..10).filter_map(of).collect()
}

/// The gap between confidence and share of right keypoints, in tenths of the confidence, averaged over the keypoints.
pub fn confidence_gap(said: &[(f32, bool)]) -> f64 {
    let gap = |(mean, n, right): (f32, usize, usize)| n as f64 * (f64::from(mean) - right as f64 / n as f64).abs();
    by_confidence(said).into_iter().map(gap).sum::<f64>() / said.len().max(1) as f64
}

/// How often keypoints are right by their confidence, in ten steps; empty if there are no confidences.
pub fn reliability(said: &[(f32, bool)]) -> String {
    let line = |(mean, n, right)| {
        let share = 100. * right as f64 / n as f64;
        format!("confidence {mean:.2}: {share:5.1} % of {n} keypoints within 5 %\n")
    };
    let lines: String = by_confidence(said).into_iter().map(line).collect();
    if said.is_empty() {
        return lines;
    }
    lines + &format!("said and right confidence differ by {:.3} on average\n", confidence_gap(said))
}

/// A reliability diagram of the same figures: the diagonal is perfect calibration.
///
/// # Errors
/// Only errors of the plotting library.
pub fn reliability_curve(said: &[(f32, bool)]) -> Result<String> {
    let share = |(mean, n, right)| (f64::from(mean), 100. * right as f64 / n as f64);
    let measured = by_confidence(said).into_iter().map(share).collect();
    let lines = [("as said", RGBColor(160, 160, 160), vec![(0., 0.), (1., 100.)]), ("measured", BLUE, measured)];
    chart("Reliability", "confidence", "keypoints within 5 % of the eye distance, %", (0., 1.), 100., lines.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_show_the_training_for_every_loss_also_where_a_value_is_no_number() {
        let epoch = |i: usize| Epoch {
            epoch: i,
            train_loss: 1. - i as f64,
            valid_rmse_px: 3.,
            valid_nme_pct: if i == 2 { f64::NAN } else { 4. },
            learning_rate: 0.,
            samples_per_second: 1.,
            waiting: 0.,
            seconds: 1.,
        };
        let history: Vec<Epoch> = (1..6).map(epoch).collect();
        for loss in [Loss::Mse, Loss::SmoothL1, Loss::Laplace] {
            let svg = curves(&history, loss).unwrap();
            assert!(svg.contains("training") && svg.contains("validation RMSE") && !svg.contains("NaN"), "{loss:?}");
        }
    }

    #[test]
    fn a_sheet_has_a_legend_and_no_black_rest() {
        let cell = |found: bool| {
            let points = vec![[20., 20.]];
            let picture = Gray::new(40, 40, vec![128; 1600]).unwrap();
            (picture, points.clone(), if found { points } else { vec![] })
        };
        let sheet = sheet(&[cell(true), cell(true), cell(true)], 2, 2);
        assert_eq!((sheet.width(), sheet.height()), (168, 180));
        assert!(sheet.pixels().all(|p| p.0 != [0; 3]));
        let legend = |colour| sheet.enumerate_pixels().any(|(_, y, p)| y >= 160 && p.0 == colour);
        assert!(legend(LABEL) && legend(FOUND) && legend([40; 3]));
        for letter in "labelprediction".chars() {
            assert!(LETTERS.iter().any(|(l, _)| *l == letter), "{letter}");
        }
    }

    #[test]
    fn the_confidence_gap_by_hand() {
        // 0.9 twice, right once: 0.4 off; 0.3 twice, never right: 0.3 off.
        let said = [(0.9, true), (0.9, false), (0.3, false), (0.3, false)];
        assert!((confidence_gap(&said) - 0.35).abs() < 1e-6);
        assert_eq!(confidence_gap(&[]), 0.);
    }

    #[test]
    fn calibrated_confidences_are_shares_of_right_keypoints() {
        // 0.9, right 7 times in 10; 0.5, right 3 times in 10.
        let said: Vec<_> = (0..1000).flat_map(|i| [(0.9f32, i % 10 < 7), (0.5, i % 10 < 3)]).collect();
        let c = calibrate(&said).unwrap();
        assert!((c.confidence((0.9f32 / 0.1).ln()) - 0.7).abs() < 1e-3 && (c.confidence(0.) - 0.3).abs() < 1e-3);
        assert!(calibrate(&[(0.5, true)]).is_none());
        assert!(reliability(&said).contains("confidence 0.90:  70.0 % of 1000"));
    }
}
