//! Hair, beards and glasses.

use super::*;

impl Painter<'_> {
    /// Paints hair: strands that run down from the crown, lit like the head.
    pub(super) fn comb(&mut self, mask: &Mask, dark: f32) {
        let look = self.posed.look;
        let mut canvas = std::mem::replace(&mut self.canvas, Canvas { width: 0, height: 0, pixels: Vec::new() });
        // Strands finer than a pixel would only be noise.
        let fine = (self.unit / 2.).clamp(0.2, 1.);
        let curly = look.hair == Hair::Curly;
        canvas.each(mask, |x, y, pixel, cover| {
            let [px, py] = self.to_units.apply([x, y]);
            let (dx, dy) = (px - 8. * look.part, py + 62.);
            let along = if dy > 20. { dx * (1. - 0.002 * dy) } else { 22. * (dx / (dy.abs() + 14.)).clamp(-4., 4.) };
            let strand = if curly {
                wobble(look.strands, px * 0.5 + wobble(3, py * 0.4)) * wobble(look.strands ^ 5, py * 0.45)
            } else {
                0.6 * wobble(look.strands, along * 0.33 + 0.01 * dy) + 0.4 * wobble(look.strands ^ 9, along * 1.1)
            };
            // A soft band of shine over the crown.
            let shine = 0.35 / (1. + ((py + 52. + 0.01 * px * px) / 6.).powi(2)).powi(2);
            let tone = dark * (1. + fine * (0.22 * strand) + shine);
            let colour = times(look.hair_colour.map(|c| c * tone + 0.05 * shine), self.light(x, y));
            *pixel = mix(*pixel, colour, cover);
        });
        self.canvas = canvas;
    }

    /// The outline of the hair from `low` on one side over the crown to the other, `grow` units off the skull.
    pub(super) fn crown(&self, low: f32, grow: f32) -> Vec<Point> {
        let curly = if self.posed.look.hair == Hair::Curly { 2.2 } else { 0.25 };
        let nod = self.nod(0.);
        // The back of the skull reaches farther out than the face when the head is turned.
        let back = self.posed.pose.yaw.sin();
        let taper = if matches!(self.posed.look.hair, Hair::Short | Hair::SidePart) { 0.1 } else { 1. };
        let n = 26;
        let mut points: Vec<Point> = (0..=n)
            .map(|i| {
                let t = i as f32 / n as f32;
                let angle = PI * (1. - t);
                let (sin, cos) = angle.sin_cos();
                let y = if i == 0 || i == n { low } else { -14. - 55. * sin };
                let ripple = curly * wobble(self.posed.look.strands, t * 17.);
                let width = 39. * self.posed.look.face_width;
                // Short hair is cut closer at the sides.
                let aside = grow * lerp(taper, 1., sin);
                [(width + aside + ripple) * cos - 4. * (back - back.abs() * cos), y - (grow * 0.8 + ripple) * sin + nod]
            })
            .collect();
        points[0][0] *= 0.98;
        points
    }

    pub(super) fn hair_behind(&mut self) {
        let look = self.posed.look;
        let v = look.volume;
        let (length, width) = match look.hair {
            Hair::Long => (85., 42. + 7. * v),
            Hair::Bob => (40. + 8. * v, 42. + 8. * v),
            Hair::Curly => (8., 39. + 4. * v),
            Hair::Fringe => (4., 38. + 2. * v),
            _ => (0., 0.),
        };
        let sway = -8. * self.posed.pose.yaw.sin();
        if look.hair == Hair::Bun && look.hat.is_none() {
            let ring = (0..10).map(|i| (i as f32 * TAU / 10.).sin_cos());
            let bun: Vec<Point> = ring.map(|(s, c)| [sway * 2. + 15. * c, -76. + self.nod(-20.) + 12. * s]).collect();
            let mask = self.flat(&bun, 0.6);
            self.comb(&mask, 0.85);
        }
        if width > 0. {
            // Under a hat the hair lies flat.
            let mut outline = self.crown(0., if look.hat.is_some() { 1. } else { 2. + 4. * v });
            let tips =
                [(1., 0.5), (1.02, 0.85), (0.8, 1.), (0.3, 0.97), (-0.3, 0.97), (-0.8, 1.), (-1.02, 0.85), (-1., 0.5)];
            outline.extend(tips.map(|(x, y)| [sway + x * width, y * length]));
            let mask = self.flat(&outline, 0.3);
            self.comb(&mask, 0.72);
        }
    }

    pub(super) fn beard(&mut self, head: &Mask) {
        let look = self.posed.look;
        let s = &self.posed.shape;
        let (mouth, bottom, chin) = (s.mouth, s.lip_bottom, self.posed.chin());
        let colour = mix(look.hair_colour, times(look.skin, [0.3, 0.25, 0.22]), 0.3);
        if look.beard > 0. {
            let half: &[[f32; 3]] = if look.goatee {
                &[
                    [0., bottom + 2.5, 0.],
                    [8., bottom + 2., 0.],
                    [mouth[0] + 2., mouth[1] - 2., 0.],
                    [mouth[0] + 6., mouth[1] + 4., 0.],
                    [15., chin - 4., 0.],
                ]
            } else {
                &[
                    [0., bottom + 3., 0.],
                    [10., bottom + 2., 0.],
                    [mouth[0] + 3., mouth[1] + 1., 0.],
                    [mouth[0] + 8., mouth[1] - 6., 0.],
                    [33., 8., 0.],
                    [37., -6., 0.],
                    [60., -4., 0.],
                    [60., 20., 0.],
                    [50., 36., 0.],
                    [26., chin - 2., 0.],
                ]
            };
            let mut points = half.to_vec();
            points.push([0., chin + 2., 0.]);
            points.extend(half[1..].iter().rev().map(|p| [-p[0], p[1], p[2]]));
            let mask = self.patch(&points, 1.6).within(head);
            self.canvas.lay(&mask, colour, 0.85 * look.beard);
        }
        if look.moustache > 0. {
            let top = s.lip_top;
            let half = [
                [6., top - 4.5, 4.],
                [13., top - 0.5, 1.],
                [mouth[0] + 2.5, mouth[1] - 0.5, 0.],
                [mouth[0] - 1., mouth[1] - 0.8, 0.],
                [8., top + 1., 2.],
            ];
            let mut points = vec![[0., top - 4., 5.]];
            points.extend(half);
            points.push([0., top + 0.3, 2.]);
            points.extend(half.iter().rev().map(|p| [-p[0], p[1], p[2]]));
            let mask = self.patch(&points, 0.8);
            self.canvas.lay(&mask, colour, 0.9 * look.moustache);
        }
    }

    pub(super) fn hair_in_front(&mut self) {
        let look = self.posed.look;
        let v = look.volume;
        let part = look.part;
        // The hairline, from the sideburn on the right over the forehead to the left: (x, y) on the head.
        let line = -42. + look.hairline * 0.8;
        let (grow, edge, hairline): (f32, f32, Vec<Point>) = match look.hair {
            Hair::Bald => (0., 0., vec![]),
            Hair::Buzz => (0.8, 1.4, vec![[38., -8.], [33., -14.], [30., -30.], [22., line + 1.], [8., line]]),
            Hair::Short | Hair::Curly => (
                2. + 4. * v,
                0.7,
                vec![[39., -5.], [36.5, -10.], [33.5, -24.], [30., -34.], [20., line + 1.], [7., line - 2.]],
            ),
            Hair::Fringe => (2. + 4. * v, 0.3, vec![[39., 2.], [34., -12.], [31., -25.], [21., -28.5], [8., -28.]]),
            Hair::Bun => (1.2 + v, 0.6, vec![[38., -8.], [35., -18.], [30., -34.], [19., line], [7., line - 3.]]),
            _ => (2. + 4. * v, 0.35, vec![]),
        };
        let side_line = |x: f32, y: f32| [x * part, y];
        let mut front: Vec<Point> = match look.hair {
            Hair::Bald => vec![],
            // Parted hair sweeps over the forehead from one side.
            Hair::SidePart => {
                let short = [
                    [-39., -5.],
                    [-36.5, -10.],
                    [-33., -26.],
                    [-25., line + 1.],
                    [-15., line - 6.],
                    [2., line],
                    [16., line + 3.],
                    [27., line + 9.],
                    [35., -20.],
                    [39., -5.],
                ];
                short.map(|p| side_line(p[0], p[1])).to_vec()
            }
            Hair::Bob | Hair::Long => {
                let long = [
                    [-39., 22.],
                    [-35., 2.],
                    [-33., -16.],
                    [-27., line + 8.],
                    [-10., line - 6.],
                    [4., line],
                    [20., line + 7.],
                    [30., -22.],
                    [34., -4.],
                    [39., 22.],
                ];
                long.map(|p| side_line(p[0], p[1])).to_vec()
            }
            _ => hairline.iter().map(|p| [-p[0], p[1]]).chain(hairline.iter().rev().copied()).collect(),
        };
        if front.first().is_some_and(|p| p[0] > 0.) {
            front.reverse();
        }
        if !front.is_empty() {
            let low = front[0][1];
            let mut outline = self.crown(low, if look.hat.is_some() { grow.min(1.) } else { grow });
            let inner = front.iter().rev().map(|p| self.posed.turn(p[0], p[1], 0.));
            outline.extend(inner);
            let shadow: Vec<Point> = outline.iter().map(|p| [p[0] - 1.5 * look.light[0], p[1] + 2.]).collect();
            let shadow = self.flat(&shadow, 1.6);
            let soft = edge;
            let mask = self.flat(&outline, soft);
            if look.hair != Hair::Buzz {
                self.canvas.stain(&shadow, [0.82, 0.74, 0.72]);
            }
            self.comb(&mask, 1.);
        }
        if let Some(colour) = look.hat {
            let mut dome = self.crown(-30., 4.5);
            let rim = [[30., -32.], [15., -31.], [0., -30.5], [-15., -31.], [-30., -32.]];
            dome.extend(rim.map(|p| self.posed.turn(p[0], p[1], 2.)));
            let dome = self.flat(&dome, 0.3);
            let mut canvas = std::mem::replace(&mut self.canvas, Canvas { width: 0, height: 0, pixels: Vec::new() });
            canvas.each(&dome, |x, y, p, cover| *p = mix(*p, times(colour, self.light(x, y)), cover));
            self.canvas = canvas;
            let band: Vec<[f32; 3]> =
                [-44., -30., -15., 0., 15., 30., 44.].map(|x| [x, -34.5 + 0.003 * x * x, 2.5]).to_vec();
            let band = self.trace(&band, 0.4, |_| 4.5);
            self.canvas.stain(&band, [0.72; 3]);
        }
    }

    pub(super) fn glasses(&mut self) {
        let Some((colour, thick, square, size)) = self.posed.look.glasses else { return };
        let light = self.posed.look.ambient * 0.3 + 0.7;
        let s = &self.posed.shape;
        let middle = (s.eye_in[0] + s.eye_out[0]) / 2. + 0.5;
        for side in [-1., 1.] {
            // A superellipse between a circle and a rounded rectangle.
            let ring: Vec<[f32; 3]> = (0..20)
                .map(|i| (i as f32 * TAU / 20.).sin_cos())
                .map(|(sin, cos)| {
                    let bend = |v: f32| v.signum() * v.abs().powf(1. - 0.45 * square);
                    [side * (middle + 11.6 * size * bend(cos)), -8.6 + lerp(10., 8., square) * size * bend(sin), 3.]
                })
                .collect();
            let lens = self.patch(&ring, 0.2);
            self.canvas.lay(&lens, [0.9, 0.95, 1.], 0.05);
            let mut closed = self.closed(&ring);
            closed.push(closed[0]);
            let half = (0.45 + 0.55 * thick) * self.unit;
            let frame = self.canvas.fill(&stroke(&closed, |_| half * 0.7), 0.15 * self.unit);
            self.canvas.lay(&frame, dim(colour, light), 0.95);
            let arm = [[side * (middle + 11.6 * size), -11., 3.], [side * 36., -10.5, 2.], [side * 39.5, -9.5, 1.]];
            let arm = self.trace(&arm, 0.15, |_| 0.4 + 0.3 * thick);
            self.canvas.lay(&arm, dim(colour, light * 0.85), 0.95);
        }
        let inner = middle - 11.4 * size;
        let bridge =
            self.trace(&[[-inner, -10.5, 4.], [0., -12., 6.], [inner, -10.5, 4.]], 0.15, |_| 0.4 + 0.25 * thick);
        self.canvas.lay(&bridge, dim(colour, light), 0.95);
    }
}
