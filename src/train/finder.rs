//! The finder's targets and loss, after CenterNet (Zhou, Wang, Krähenbühl 2019): a heatmap of the faces' centres with the
//! penalty-reduced focal loss, and offset, size and roll where the heatmap is high.

use crate::error::Result;
use crate::geometry::CropBox;
use crate::infer::decode;
use crate::nets::{FINDER_SIZE, FINDER_VALUES, SIDE};
use candle_core::{Device, Tensor};

/// Places along a side.
const PLACES: usize = 24;

/// Values of a target: the heatmap, the weight of the box values, and the box values in the net's encoding.
const TARGET: usize = 2 + FINDER_VALUES - 1;

/// The heatmap's standard deviation as a share of the face's size, and its lower limit in pixels.
const SPREAD: (f32, f32) = (0.1, 2.5);

/// Targets (B, 24 * 24, 6) of scenes; `None` if there are no scenes.
pub(super) fn targets(scenes: &[Vec<CropBox>]) -> Result<Option<Tensor>> {
    if scenes.is_empty() {
        return Ok(None);
    }
    let step = SIDE as f32 / PLACES as f32;
    let mut all = vec![0f32; scenes.len() * PLACES * PLACES * TARGET];
    for (scene, out) in scenes.iter().zip(all.chunks_exact_mut(PLACES * PLACES * TARGET)) {
        for face in scene {
            let spread = (SPREAD.0 * face.size).max(SPREAD.1);
            let place = |p: f32| (((p + 0.5) / step) as usize).min(PLACES - 1);
            let peak = (place(face.x.max(0.)), place(face.y.max(0.)));
            for (i, t) in out.chunks_exact_mut(TARGET).enumerate() {
                let (x, y) = (i % PLACES, i / PLACES);
                let middle = |n: usize| (n as f32 + 0.5) * step - 0.5;
                let (dx, dy) = (face.x - middle(x), face.y - middle(y));
                let near = (-(dx * dx + dy * dy) / (2. * spread * spread)).exp();
                let heat = if (x, y) == peak { 1. } else { near.min(0.99) };
                if heat > t[0] {
                    let weight = if heat > 0.5 { heat } else { 0. };
                    t.copy_from_slice(&[heat, weight, dx / step, dy / step, (face.size / FINDER_SIZE).ln(), face.roll]);
                }
            }
        }
    }
    Ok(Some(Tensor::from_vec(all, (scenes.len(), PLACES * PLACES, TARGET), &Device::Cpu)?))
}

/// Focal loss of the heatmap plus smooth L1 of the box values, averaged over the faces.
pub(super) fn loss(output: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let (b, places, _) = targets.dims3()?;
    let output = output.reshape((b, places, FINDER_VALUES))?;
    let logits = output.narrow(2, 0, 1)?.contiguous()?;
    let heat = targets.narrow(2, 0, 1)?.contiguous()?;
    let peaks = heat.ge(1f32)?.to_dtype(candle_core::DType::F32)?;
    let faces = f64::from(peaks.sum_all()?.to_scalar::<f32>()?).max(1.);
    // log(1 + exp(-|z|)) + max(-z, 0) is -log p, and with max(z, 0) it is -log(1 - p).
    let soft = ((logits.abs()?.neg()?.exp()? + 1.)?).log()?;
    let (minus_log_p, minus_log_q) = ((&soft + logits.neg()?.relu()?)?, (&soft + logits.relu()?)?);
    let p = minus_log_p.neg()?.exp()?;
    let q = minus_log_q.neg()?.exp()?;
    let hits = ((q.sqr()? * minus_log_p)? * &peaks)?;
    let far = (1. - &heat)?.sqr()?.sqr()?;
    let misses = (((p.sqr()? * minus_log_q)? * far)? * (1. - peaks)?)?;
    let focal = ((hits + misses)?.sum_all()? / faces)?;
    let weight = targets.narrow(2, 1, 1)?.contiguous()?;
    let weights = weight.sum_all()?.to_scalar::<f32>()?;
    let error = (output.narrow(2, 1, FINDER_VALUES - 1)? - targets.narrow(2, 2, FINDER_VALUES - 1)?)?.abs()?;
    // Quadratic below a tenth: of a place, of the size's logarithm, or of a radian.
    let near = error.minimum(0.1f32)?;
    let smooth = (&near * (error - (&near * 0.5)?)?)?;
    let boxes = (smooth.broadcast_mul(&weight)?.sum_all()? * (20. / f64::from(weights.max(1.))))?;
    Ok((focal + boxes)?)
}

/// The corners of the best box in each scene.
pub(super) fn corners(output: &Tensor) -> Result<Vec<Vec<[f32; 2]>>> {
    let (_, side, _, stride) = output.dims4()?;
    let values: Vec<f32> = output.flatten_all()?.to_vec1()?;
    let mut found = Vec::new();
    let best = |out: &[f32]| {
        decode(out, side, stride, SIDE, 0., &mut found);
        found[0].square().corners().to_vec()
    };
    Ok(values.chunks_exact(side * side * stride).map(best).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_targets_of_a_scene_decode_to_its_boxes() {
        let boxes =
            vec![CropBox { x: 20.3, y: 31., size: 18., roll: 0.3 }, CropBox { x: 70., y: 50.2, size: 40., roll: -0.2 }];
        let targets: Vec<f32> =
            targets(std::slice::from_ref(&boxes)).unwrap().unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let mut out = Vec::new();
        for t in targets.chunks_exact(TARGET) {
            out.extend([if t[0] >= 1. { 5. } else { -5. }, t[2], t[3], t[4], t[5]]);
        }
        let mut found = Vec::new();
        decode(&out, PLACES, FINDER_VALUES, SIDE, 0.5, &mut found);
        assert_eq!(found.len(), 2);
        for b in boxes {
            let near = |f: &&crate::infer::Found| (f.x - b.x).abs() < 1e-3 && (f.size - b.size).abs() < 1e-2;
            let f = found.iter().find(near).unwrap();
            assert!((f.y - b.y).abs() < 1e-3 && (f.roll - b.roll).abs() < 1e-4);
        }
    }

    #[test]
    fn the_loss_falls_when_the_answer_gets_better() {
        let targets = targets(&[vec![CropBox { x: 40., y: 40., size: 24., roll: 0. }]]).unwrap().unwrap();
        let value = |logit: f32| {
            let heat: Vec<f32> = targets.narrow(2, 0, 1).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let out: Vec<f32> =
                heat.iter().flat_map(|h| [if *h >= 1. { logit } else { -logit }, 0., 0., 0., 0.]).collect();
            let out = Tensor::from_vec(out, (1, PLACES, PLACES, FINDER_VALUES), &Device::Cpu).unwrap();
            loss(&out, &targets).unwrap().to_scalar::<f32>().unwrap()
        };
        assert!(value(4.) < value(1.) && value(1.) < value(-1.));
    }

    #[test]
    fn the_loss_by_hand() {
        let values = |of: &dyn Fn(usize) -> [f32; TARGET]| (0..PLACES * PLACES).flat_map(of).collect::<Vec<f32>>();
        // A face at one place; half its heat at the next.
        let targets = values(&|i| match i {
            7 => [1., 1., 0.2, -0.1, 0., 0.],
            8 => [0.5, 0., 0., 0., 0., 0.],
            _ => [0.; TARGET],
        });
        let targets = Tensor::from_vec(targets, (1, PLACES * PLACES, TARGET), &Device::Cpu).unwrap();
        let logit = |i| if i == 7 { 1. } else { -f32::from(i != 8) * 30. };
        let output = (0..PLACES * PLACES).flat_map(|i| [logit(i), 0., 0., 0., 0.]).collect();
        let output = Tensor::from_vec(output, (1, PLACES, PLACES, FINDER_VALUES), &Device::Cpu).unwrap();
        // The face: p = 0.731059, (1 - p)^2 (-log p) = 0.022658. Its neighbour: p = 1/2, p^2 log 2 (1 - 0.5)^4 = 0.010830.
        // The box: 0.1 (0.2 - 0.05) + 0.1 (0.1 - 0.05) = 0.02, times 20.
        let got = loss(&output, &targets).unwrap().to_scalar::<f32>().unwrap();
        assert!((got - (0.022658 + 0.010830 + 0.4)).abs() < 1e-5, "{got}");
    }
}
