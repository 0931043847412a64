//! Paints a head and its features, from back to front.

use super::*;

/// Paints one face: the canvas, the pose, and the map from rotated units to pixels.
pub(super) struct Painter<'a> {
    pub(super) canvas: Canvas,
    pub(super) posed: Posed<'a>,
    pub(super) map: Affine,
    /// The same for the body, which does not roll.
    pub(super) body: Affine,
    pub(super) to_units: Affine,
    /// Pixels per unit.
    pub(super) unit: f32,
    /// Sine of the pitch.
    pub(super) nodding: f32,
    /// At heights -70, -69, ... units: the middle of the head and 1 over its half width, as seen.
    pub(super) rows: Vec<[f32; 2]>,
}

pub(super) fn render(look: &Appearance, pose: &DrawnPose, width: usize, height: usize, crop: CropBox) -> Scene {
    let posed = Posed::new(look, pose);
    let map = posed.map(&crop);
    let body = posed.upright.then(Affine::translation(MIDDLE, MIDDLE)).then(crop.crop_to_frame(96));
    let row = |y| {
        let [left, right] = posed.extent(y as f32);
        [(left + right) / 2., 2. / (right - left).max(20.)]
    };
    let rows = (-70..75).map(row).collect();
    let canvas = Canvas { width, height, pixels: vec![look.backdrop[0]; width * height] };
    let to_units = map.inverse().unwrap_or(Affine::IDENTITY);
    let keypoints = posed.points.iter().map(|p| map.apply(*p)).collect();
    let mut painter =
        Painter { canvas, posed, map, body, to_units, unit: map.scale(), nodding: pose.pitch.sin(), rows };
    if !painter.canvas.pixels.is_empty() {
        painter.backdrop();
        painter.hair_behind();
        painter.body();
        painter.ears();
        painter.face();
        painter.hair_in_front();
        painter.glasses();
    }
    let byte = |c: f32| (c * 255. + 0.5) as u8;
    let mut rgba = vec![255; 4 * width * height];
    for (out, p) in rgba.chunks_exact_mut(4).zip(&painter.canvas.pixels) {
        (out[0], out[1], out[2]) = (byte(p[0]), byte(p[1]), byte(p[2]));
    }
    Scene { width, height, rgba, keypoints, crop }
}

impl Painter<'_> {
    /// A point on the head in pixels; `lift` units above the surface.
    pub(super) fn at(&self, [x, y, lift]: [f32; 3]) -> Point {
        self.map.apply(self.posed.turn(x, y, lift))
    }

    pub(super) fn closed(&self, points: &[[f32; 3]]) -> Vec<Point> {
        spline(&points.iter().map(|p| self.at(*p)).collect::<Vec<_>>(), true)
    }

    pub(super) fn line(&self, points: &[[f32; 3]]) -> Vec<Point> {
        spline(&points.iter().map(|p| self.at(*p)).collect::<Vec<_>>(), false)
    }

    /// A mask of a closed curve through points on the head, blurred by `soft` units.
    pub(super) fn patch(&self, points: &[[f32; 3]], soft: f32) -> Mask {
        self.canvas.fill(&self.closed(points), soft * self.unit)
    }

    /// A mask of a line on the head with half widths in units.
    pub(super) fn trace(&self, points: &[[f32; 3]], soft: f32, width: impl Fn(f32) -> f32) -> Mask {
        // A line thinner than half a pixel would break up.
        self.canvas.fill(&stroke(&self.line(points), |t| (width(t) * self.unit).max(0.02)), soft * self.unit)
    }

    /// A mask of an ellipse lying on the head.
    pub(super) fn spot(&self, [x, y, lift]: [f32; 3], rx: f32, ry: f32, soft: f32) -> Mask {
        let ring = (0..12).map(|i| (i as f32 * TAU / 12.).sin_cos()).map(|(s, c)| [x + rx * c, y + ry * s, lift]);
        self.patch(&ring.collect::<Vec<_>>(), soft)
    }

    /// A mask of a spline through points that do not rotate with the head but lie in its plane (hair, hat).
    pub(super) fn flat(&self, points: &[Point], soft: f32) -> Mask {
        let points: Vec<Point> = points.iter().map(|p| self.map.apply(*p)).collect();
        self.canvas.fill(&spline(&points, true), soft * self.unit)
    }

    /// The vertical shift of a point at a depth by a nod.
    pub(super) fn nod(&self, depth: f32) -> f32 {
        -(depth - NOD_PIVOT) * self.nodding
    }

    /// The light on the head (or hair) at a pixel: a factor for each channel.
    pub(super) fn light(&self, x: f32, y: f32) -> Rgb {
        let look = self.posed.look;
        let [px, py] = self.to_units.apply([x, y]);
        let row = (py - self.nod(10.) + 70.).clamp(0., self.rows.len() as f32 - 1.001);
        let i = row as usize;
        let t = row - i as f32;
        let [middle, narrow] = [0, 1].map(|k| lerp(self.rows[i][k], self.rows[i + 1][k], t));
        let u = ((px - middle) * narrow).clamp(-1., 1.);
        let v = ((py + 8.) / 62.).clamp(-1., 1.);
        // Flatter in front than a ball, steeper at the rim.
        let (nx, ny) = (u * (0.4 + 0.55 * u * u), v * (0.3 + 0.55 * v * v));
        let nz = (1. - nx * nx - ny * ny).max(0.03).sqrt();
        let toward = (nx * look.light[0] + ny * look.light[1] + nz * look.light[2]).max(0.);
        let bright = (look.ambient + (1.08 - look.ambient) * toward).min(1.1);
        // Shadows on skin stay warm.
        std::array::from_fn(|k| lerp([0.14, 0.05, 0.03][k], 1., bright) * look.light_colour[k])
    }

    pub(super) fn backdrop(&mut self) {
        let look = self.posed.look;
        let (w, h) = (self.canvas.width, self.canvas.height);
        for y in 0..h {
            let colour = mix(look.backdrop[0], look.backdrop[1], y as f32 / h as f32);
            self.canvas.pixels[y * w..(y + 1) * w].fill(colour);
        }
        // Large and often very soft: evaluated directly, which is cheaper than blurring a mask.
        for prop in &look.props {
            let (fw, fh) = (w as f32, h as f32);
            let (cx, cy) = (prop.middle[0] * fw, prop.middle[1] * fh);
            let (rx, ry) = (prop.half[0] * fw, prop.half[1] * fw);
            let soft = (prop.soft * fw).max(0.7);
            let edge = |inside: f32| smoothstep(-soft, soft, inside);
            let range = |c: f32, r: f32, n: usize| {
                ((c - r - soft).max(0.) as usize)..((c + r + soft + 1.).max(0.) as usize).min(n)
            };
            for y in range(cy, ry, h) {
                let dy = y as f32 - cy;
                let across = edge(ry - dy.abs());
                for x in range(cx, rx, w) {
                    let dx = x as f32 - cx;
                    let cover =
                        if prop.round { edge(rx - (dx * dx + dy * dy).sqrt()) } else { edge(rx - dx.abs()) * across };
                    let pixel = &mut self.canvas.pixels[y * w + x];
                    *pixel = mix(*pixel, prop.colour, 0.8 * cover);
                }
            }
        }
    }

    pub(super) fn body(&mut self) {
        let look = self.posed.look;
        let chin = self.posed.chin();
        let place = |p: &Point| self.body.apply([p[0] * look.shoulders, p[1]]);
        let shirt = [
            [-19., 66.],
            [-34., 75.],
            [-66., 84.],
            [-88., 98.],
            [-100., 190.],
            [100., 190.],
            [88., 98.],
            [66., 84.],
            [34., 75.],
            [19., 66.],
        ];
        let shirt = self.canvas.fill(&spline(&shirt.iter().map(place).collect::<Vec<_>>(), true), 0.3 * self.unit);
        let (sin, lean) = (self.posed.pose.yaw.sin(), look.face_width * look.jaw_width);
        // The neck starts at the head, which rotates, and ends at the shoulders, which do not.
        let head = |x: f32, y: f32| self.map.apply([x * lean + 6. * sin, y]);
        let foot = |x: f32, y: f32| self.body.apply([x * look.shoulders, y]);
        let depth = 76. + 14. * look.collar;
        let neck = [
            head(-25., 10.),
            head(-24., 36.),
            foot(-21., 62.),
            foot(-27., 74.),
            foot(0., depth),
            foot(27., 74.),
            foot(21., 62.),
            head(24., 36.),
            head(25., 10.),
        ];
        let neck = self.canvas.fill(&spline(&neck, true), 0.3 * self.unit);
        let tilt = look.light[0];
        let to_units = self.to_units;
        let shade = |x: f32, y: f32| {
            let u = to_units.apply([x, y])[0] / 30.;
            look.ambient + (1. - look.ambient) * (0.62 + 0.3 * (u * tilt).clamp(-1., 1.))
        };
        self.canvas.each(&shirt, |x, y, p, cover| *p = mix(*p, dim(look.shirt, shade(x, y)), cover));
        let skin = times(look.skin, look.light_colour);
        self.canvas.each(&neck, |x, y, p, cover| *p = mix(*p, dim(skin, 0.92 * shade(x, y)), cover));
        let shadow = [
            [-27., 16.],
            [-24., 38.],
            [-12., chin + 7.],
            [4. * tilt, chin + 11.],
            [12., chin + 7.],
            [24., 38.],
            [27., 16.],
        ];
        let shadow = shadow.map(|p| [p[0] + 14. * sin - 3. * tilt, p[1]]);
        let mask = self.flat(&shadow, 2.5).within(&neck);
        self.canvas.stain(&mask, [0.66, 0.56, 0.54]);
    }

    pub(super) fn ears(&mut self) {
        let look = self.posed.look;
        if matches!(look.hair, Hair::Long | Hair::Bob) && look.volume > 0.75 {
            return;
        }
        let (sin, cos) = self.posed.pose.yaw.sin_cos();
        let nod = self.nod(0.);
        for side in [-1., 1.] {
            let rim = |grow: f32| -> Vec<Point> {
                [[-4., -13.], [2.5, -15.], [5.5, -11.], [5., -3.], [2.5, 4.], [-1., 8.], [-4., 6.]]
                    .map(|p| {
                        let out =
                            37.5 * look.face_width + (p[0] * grow * (0.7 + 0.4 * look.ears)) * (1. - 0.8 * side * sin);
                        [side * out * cos - 3. * sin, (p[1] + 3.) * grow - 3. + nod]
                    })
                    .to_vec()
            };
            let (ear, inner) = (self.flat(&rim(1.), 0.2), self.flat(&rim(0.62), 0.8));
            let light = self.light_at_side(side);
            self.canvas.lay(&ear, times(times(look.skin, [0.97, 0.88, 0.86]), light), 1.);
            self.canvas.stain(&inner, [0.78, 0.68, 0.66]);
        }
    }

    pub(super) fn light_at_side(&self, side: f32) -> Rgb {
        let [x, y] = self.map.apply([side * 38., 0.]);
        self.light(x, y)
    }

    pub(super) fn face(&mut self) {
        let look = self.posed.look;
        let nod = |y: f32| self.nod(self.posed.slice(y)[1]);
        let stretch = self.posed.chin() / 53.5;
        let heights: Vec<f32> = HEAD
            .iter()
            .map(|row| if row[0] > 20. { 20. + (row[0] - 20.) * (self.posed.chin() - 20.) / 33.5 } else { row[0] })
            .collect();
        let right = heights.iter().map(|y| [self.posed.extent(*y)[1], y + nod(*y)]);
        let left = heights.iter().rev().map(|y| [self.posed.extent(*y)[0], y + nod(*y)]);
        let outline: Vec<Point> = right.chain(left).collect();
        let head = self.flat(&outline, 0.15);
        self.canvas.lay(&head, look.skin, 1.);
        // Cheeks and chin are redder, the jaw of a shaved man is greyer, and the sockets are darker.
        let blush = 0.06 + 0.12 * look.makeup;
        for side in [-1., 1.] {
            let cheek = self.spot([side * 23., 11. - self.posed.pose.smile, 0.], 9., 7., 4.);
            self.canvas.stain(&cheek, [1., 1. - blush, 1. - blush]);
            let socket = self.spot([side * 16.5, -11.5, 0.], 10., 5.5, 2.6);
            self.canvas.stain(&socket, mix([0.80, 0.72, 0.71], [0.66, 0.56, 0.6], 0.5 * look.makeup));
            let bag = self.trace(&[[side * 10., -4., 0.], [side * 16., -2.4, 0.], [side * 23., -4.5, 0.]], 0.9, |t| {
                0.7 * (PI * t).sin()
            });
            self.canvas.stain(&bag, mix([0.93, 0.9, 0.9], [0.72, 0.66, 0.66], look.age));
            // The fold from the nose to the corner of the mouth deepens with age and with a smile.
            let mouth = self.posed.shape.mouth;
            let fold = [
                [side * 9.5, 8., 2.],
                [side * 14., 15., 0.],
                [side * (mouth[0] + 3.), mouth[1] - 5., 0.],
                [side * (mouth[0] + 4.), mouth[1] + 1., 0.],
            ];
            let fold = self.trace(&fold, 0.8, |t| 0.8 * (PI * t).sin());
            let deep = (0.1 + 0.45 * look.age + 0.25 * self.posed.pose.smile).clamp(0.05, 0.8);
            self.canvas.stain(&fold, mix([1.; 3], [0.62, 0.5, 0.47], deep));
        }
        if look.age > 0.55 {
            for y in [-39., -34., -29.5] {
                let line =
                    self.trace(&[[-16., y + 1., 0.], [-6., y, 0.], [6., y + 0.4, 0.], [17., y + 1.2, 0.]], 0.6, |t| {
                        0.5 * (PI * t).sin()
                    });
                self.canvas.stain(&line, mix([1.; 3], [0.7, 0.62, 0.6], 0.8 * (look.age - 0.5)));
            }
        }
        let below_lip = self.posed.shape.lip_bottom + 3.2;
        let crease = self.spot([0., below_lip, 0.], 7., 1.2, 1.2);
        self.canvas.stain(&crease, [0.8, 0.71, 0.7]);
        let chin = self.spot([0., 45. * stretch, 0.], 6., 3.5, 3.);
        self.canvas.lay(&chin, mix(look.skin, [1.; 3], 0.35), 0.18);
        self.beard(&head);
        self.mouth();
        self.nose();
        for side in [-1., 1.] {
            self.eye(side);
            self.brow(side);
        }
        let mut canvas = std::mem::replace(&mut self.canvas, Canvas { width: 0, height: 0, pixels: Vec::new() });
        canvas.each(&head, |x, y, pixel, cover| *pixel = mix(*pixel, times(*pixel, self.light(x, y)), cover));
        self.canvas = canvas;
    }

    pub(super) fn mouth(&mut self) {
        let look = self.posed.look;
        let (mouth, top, bottom, inner, low) = {
            let s = &self.posed.shape;
            (s.mouth, s.lip_top, s.lip_bottom, s.inner_top, s.inner_bottom)
        };
        let w = mouth[0];
        let both = |half: &[[f32; 3]]| -> Vec<[f32; 3]> {
            half.iter().rev().map(|p| [-p[0], p[1], p[2]]).chain(half.iter().filter(|p| p[0] > 0.).copied()).collect()
        };
        let corner = [w, mouth[1], 0.];
        let middle = lerp(inner, mouth[1], 0.25);
        let upper = both(&[[0., top, 2.], [3., top - 0.7, 2.], [w * 0.6, lerp(top, mouth[1], 0.36), 1.], corner]);
        let lower = both(&[
            [0., bottom, 1.],
            [w * 0.35, bottom - 0.4, 1.],
            [w * 0.7, lerp(bottom, mouth[1], 0.42), 0.5],
            corner,
        ]);
        let seam_top =
            both(&[[0., inner + 0.3, 2.], [w * 0.3, inner, 2.], [w * 0.68, lerp(middle, mouth[1], 0.4), 1.], corner]);
        let seam_low =
            both(&[[0., low + 0.3, 2.], [w * 0.3, low, 2.], [w * 0.68, lerp(low, mouth[1], 0.5), 1.], corner]);
        let ring = |over: &[[f32; 3]], under: &[[f32; 3]]| -> Vec<Point> {
            let mut ring = self.line(over);
            ring.extend(self.line(under).into_iter().rev());
            ring
        };
        let soft = 0.35 * self.unit;
        let upper_lip = self.canvas.fill(&ring(&upper, &seam_top), soft);
        let lower_lip = self.canvas.fill(&ring(&seam_low, &lower), soft);
        let inside = self.canvas.fill(&ring(&seam_top, &seam_low), 0.2 * self.unit);
        let gap = self.posed.pose.gap;
        self.canvas.lay(&lower_lip, mix(look.lips, look.skin, 0.12), 0.9);
        self.canvas.lay(&upper_lip, dim(look.lips, 0.86), 0.9);
        let shine = self.spot([-3. * look.light[0], lerp(low, bottom, 0.45), 1.], w * 0.28, 0.7, 0.9);
        self.canvas.lay(&shine, [1., 0.93, 0.9], 0.22 + 0.2 * look.makeup);
        self.canvas.lay(&inside, [0.2, 0.06, 0.06], smoothstep(0., 1.2, gap));
        if gap > 0.5 {
            // The upper teeth hang from the lip; the tongue shows when the mouth is wide open.
            let teeth = self
                .patch(
                    &[
                        [-w * 0.66, mouth[1] - 2., 0.],
                        [0., inner - 2., 0.],
                        [w * 0.66, mouth[1] - 2., 0.],
                        [w * 0.5, inner + 3.6, 0.],
                        [0., inner + 4.6, 0.],
                        [-w * 0.5, inner + 3.6, 0.],
                    ],
                    0.3,
                )
                .within(&inside);
            self.canvas.lay(&teeth, [0.93, 0.9, 0.84], 0.95);
            let tongue = self.spot([0., low + 1.5, 0.], w * 0.5, (gap * 0.35).max(0.1), 0.8).within(&inside);
            self.canvas.lay(&tongue, [0.72, 0.34, 0.34], smoothstep(4., 7., gap));
        }
        let seam = self.trace(&seam_top, 0.3, |t| 0.25 + 0.45 * (PI * t).sin());
        self.canvas.stain(&seam, [0.42, 0.3, 0.3]);
        for side in [-1., 1.] {
            let dimple = self.spot([side * (w + 0.3), mouth[1], 0.], 1.1, 0.9, 0.7);
            self.canvas.stain(&dimple, [0.6, 0.48, 0.46]);
        }
    }

    pub(super) fn nose(&mut self) {
        let look = self.posed.look;
        let tip = self.posed.shape.nose;
        let wide = look.nose_width;
        let dark = |k: f32| mix([1.; 3], [0.5, 0.38, 0.36], k);
        // The side away from the light is darker, all the more when the light is strong.
        let strength = 0.2 + 0.45 * (1. - look.ambient);
        for side in [-1., 1.] {
            let away = (0.5 - 0.9 * side * look.light[0]).clamp(0.12, 1.);
            let flank = [
                [side * 5., -17., 1.],
                [side * 3.4, -8., 4.],
                [side * 3.8, 2., 6.],
                [side * 4.6, tip, 7.],
                [side * 9. * wide, tip + 3., 2.],
                [side * 8., tip - 3., 1.],
                [side * 6.6, -8., 1.],
            ];
            let flank = self.patch(&flank, 1.4);
            self.canvas.stain(&flank, dark(strength * away));
            let wing = [
                [side * 7.2 * wide, tip - 1., 3.],
                [side * 9.2 * wide, tip + 1.5, 2.],
                [side * 8.6 * wide, tip + 4.8, 2.],
                [side * 6. * wide, tip + 5.4, 4.],
            ];
            let wing = self.trace(&wing, 0.5, |t| 0.3 + 0.5 * (PI * t).sin());
            self.canvas.stain(&wing, dark(0.75));
        }
        let under = self.spot([0., tip + 6., 5.], 6.5 * wide, 1.5, 1.2);
        self.canvas.stain(&under, dark(0.6));
        for side in [-1., 1.] {
            let nostril = self.spot([side * 3.9 * wide, tip + 4.6, 6.], 1.9 * wide, 0.95, 0.4);
            self.canvas.stain(&nostril, [0.3, 0.2, 0.19]);
        }
        let glow = mix(look.skin, [1.; 3], 0.55);
        let towards = 1.6 * look.light[0];
        let ridge = self.trace(
            &[[towards * 0.4, -14., 4.], [towards * 0.5, -4., 7.], [towards * 0.6, tip - 3., 10.]],
            1.,
            |_| 0.9,
        );
        self.canvas.lay(&ridge, glow, 0.3);
        let ball = self.spot([towards, tip - 0.6, 11.], 2., 1.6, 1.1);
        self.canvas.lay(&ball, glow, 0.5);
    }

    pub(super) fn eye(&mut self, side: f32) {
        let look = self.posed.look;
        let pose = self.posed.pose;
        let (up, low) = (self.posed.shape.lid_up, self.posed.shape.lid_low);
        let lid = |height: f32, n: usize| -> Vec<[f32; 3]> {
            let point = |i: usize| self.posed.shape.lid(i as f32 / n as f32, height);
            (0..=n).map(point).map(|p| [side * p[0], p[1], 0.]).collect()
        };
        let (over, under) = (lid(up, 8), lid(-low, 8));
        let mut opening = self.line(&over);
        opening.extend(self.line(&under).into_iter().rev());
        let opening = self.canvas.fill(&opening, 0.2 * self.unit);
        let middle = self.posed.shape.lid(0.5, 0.35 * (3.5 * look.eye_height - low));
        let centre = [side * middle[0] + pose.gaze[0], middle[1] + pose.gaze[1], 0.];
        self.canvas.lay(&opening, [0.90, 0.88, 0.86], 1.);
        let iris = self.spot(centre, 3.1, 3.1, 0.15).within(&opening);
        self.canvas.lay(&iris, dim(look.iris, 0.55), 1.);
        let ring = self.spot([centre[0], centre[1] + 0.3, 0.], 2.4, 2.3, 0.4).within(&opening);
        self.canvas.lay(&ring, dim(look.iris, 1.15), 0.9);
        let pupil = self.spot(centre, 1.25, 1.25, 0.12).within(&opening);
        self.canvas.lay(&pupil, [0.03, 0.02, 0.02], 1.);
        // The upper lid shades the eyeball under it.
        let shade = self.trace(&over, 0.7, |_| 1.2).within(&opening);
        self.canvas.stain(&shade, [0.45, 0.42, 0.42]);
        let glint = self.spot([centre[0] + 1.3 * look.light[0], centre[1] - 1.2, 0.], 0.6, 0.6, 0.15).within(&opening);
        self.canvas.lay(&glint, [1.; 3], 0.9);
        let lash = 0.45 + 0.4 * look.makeup;
        let upper = self.trace(&over, 0.2, |t| lash * (0.55 + 0.6 * t));
        self.canvas.lay(&upper, dim(look.brow_colour, 0.4), 0.9);
        let lower = self.trace(&under, 0.3, |t| 0.15 + 0.25 * t);
        self.canvas.stain(&lower, [0.55, 0.44, 0.43]);
        let crease = self.trace(&lid(up.max(1.5) + 1.9, 6)[..6], 0.4, |t| 0.45 * (PI * t).sin());
        self.canvas.stain(&crease, [0.6, 0.48, 0.46]);
    }

    pub(super) fn brow(&mut self, side: f32) {
        let look = self.posed.look;
        let s = &self.posed.shape;
        let between = [lerp(s.brow_in[0], s.brow_mid[0], 0.5), lerp(s.brow_in[1], s.brow_mid[1], 0.6)];
        let line = [s.brow_in, between, s.brow_mid, s.brow_out].map(|p| [side * p[0], p[1], 1.]);
        let width = look.brow_width;
        let brow = self.trace(&line, 0.45, |t| width * (1. - 0.8 * t * t) * (0.7 + 0.3 * smoothstep(0., 0.25, t)));
        self.canvas.lay(&brow, look.brow_colour, 0.85);
    }
}
