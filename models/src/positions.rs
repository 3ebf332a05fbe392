//! Numbers that follow from positions alone: the same for every backend.

use crate::description::Reach;

/// Returns the bucket of each pair of `tokens` positions by their distance, row by row: Raffel et al., "T5", 2020, for
/// texts that are seen in both directions. The first half of the buckets is for tokens before.
pub fn buckets(tokens: usize, buckets: usize, max_distance: usize) -> Vec<u32> {
    let row = |from| (0..tokens).map(move |to| bucket(from, to, buckets, max_distance));
    (0..tokens).flat_map(row).collect()
}

/// Returns the same by distance alone: from the farthest token before, `tokens - 1` positions away, to the farthest
/// after.
pub fn buckets_by_distance(tokens: usize, buckets: usize, max_distance: usize) -> Vec<u32> {
    let before = (1..tokens).rev().map(|distance| bucket(distance, 0, buckets, max_distance));
    before.chain((0..tokens).map(|distance| bucket(0, distance, buckets, max_distance))).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "buckets are few")]
fn bucket(from: usize, to: usize, buckets: usize, max_distance: usize) -> u32 {
    let half = buckets / 2;
    let exact = (half / 2).max(1);
    let distance = from.abs_diff(to);
    let side = if to > from { half } else { 0 };
    if distance < exact {
        return (side + distance) as u32;
    }
    let far = (distance as f32 / exact as f32).ln() / (max_distance as f64 / exact as f64).ln() as f32;
    let far = exact + (far * (half - exact) as f32) as usize;
    (side + far.min(half.saturating_sub(1))) as u32
}

/// Returns 1 where a token sees another and 0 elsewhere, for each pair of `tokens` positions, row by row; `None` if all
/// see all.
pub fn reach(reach: Reach, tokens: usize) -> Option<Vec<f32>> {
    let seen = |from: usize, to: usize| match reach {
        Reach::All => true,
        Reach::Within(distance) => from.abs_diff(to) <= distance,
        Reach::Before => to <= from,
    };
    if reach == Reach::All {
        return None;
    }
    let row = |from| (0..tokens).map(move |to| f32::from(u8::from(seen(from, to))));
    Some((0..tokens).flat_map(row).collect())
}

/// Returns cosines and sines of a head's turns at each of `tokens` positions, `[tokens, head_size / 2]`: Su et al.,
/// "`RoFormer`", 2021. In f32 as the models were trained.
#[expect(clippy::cast_possible_truncation, reason = "as the models were trained")]
pub fn turns(theta: f64, head_size: usize, tokens: usize) -> [Vec<f32>; 2] {
    let half = head_size / 2;
    let speeds: Vec<f32> =
        (0..half).map(|i| theta.powf(-((2 * i) as f64 / head_size as f64)) as f32).collect();
    let angles = (0..tokens).flat_map(|position| speeds.iter().map(move |speed| position as f32 * speed));
    let angles: Vec<f32> = angles.collect();
    [angles.iter().map(|angle| angle.cos()).collect(), angles.iter().map(|angle| angle.sin()).collect()]
}
