//! How the texts of a batch are shared among threads.

/// Divides texts, of so many tokens each, into groups of about as many tokens, one after the other. No group is empty: there
/// are as many texts at least.
pub(super) fn divided(lengths: &[usize], groups: usize) -> Vec<&[usize]> {
    let all: usize = lengths.iter().sum();
    let (mut divided, mut rest, mut before) = (Vec::with_capacity(groups), lengths, 0);
    for group in 1..groups {
        let (most, mut count) = (rest.len().saturating_sub(groups - group), 0);
        // A text belongs to a group if most of it does.
        while count < most && (count == 0 || (2 * before + rest[count]) * groups <= 2 * all * group) {
            before += rest[count];
            count += 1;
        }
        let (of_group, others) = rest.split_at(count);
        divided.push(of_group);
        rest = others;
    }
    divided.push(rest);
    divided
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_shared_out_and_not_texts() {
        let counts = |texts: usize, groups| {
            divided(&vec![7; texts], groups).into_iter().map(<[usize]>::len).collect::<Vec<_>>()
        };
        assert_eq!((counts(4, 2), counts(3, 3), counts(5, 1)), (vec![2, 2], vec![1; 3], vec![5]));
        assert_eq!(divided(&[100, 1, 1, 1], 2), [&[100][..], &[1, 1, 1]]);
        assert_eq!(divided(&[1, 1, 1, 100], 2), [&[1, 1, 1][..], &[100]]);
        assert_eq!(divided(&[30, 10, 10, 10, 20, 40], 3), [&[30, 10][..], &[10, 10, 20], &[40]]);
    }

    #[test]
    fn every_text_is_in_one_group_and_none_is_empty() {
        // Lengths of all kinds, drawn in a fixed order.
        let mut drawn = (1_u32..).map(|at| (at.wrapping_mul(2_654_435_761) >> 20) as usize);
        for groups in 1..9 {
            for texts in groups..20 {
                let lengths: Vec<_> =
                    drawn.by_ref().take(texts).map(|length| length % (1 + 3 * texts)).collect();
                let divided = divided(&lengths, groups);
                assert!(
                    divided.len() == groups && divided.iter().all(|group| !group.is_empty()),
                    "{lengths:?}"
                );
                assert_eq!(divided.concat(), lengths);
            }
        }
    }
}
