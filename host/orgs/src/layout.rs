//! Where the canvas shows an organization: parents around their children, two columns each. The formulas
//! are those of the canvas, so that nothing moves when it opens.

use crate::template::Node;

const LEAF: (f64, f64) = (240.0, 130.0);
const GUTTER: f64 = 14.0;
/// Height above the children of a parent.
const HEADER: f64 = 130.0;
/// Width beside and height below them.
const PADDING: f64 = 16.0;
const COLUMNS: usize = 2;

/// The size of a node, and the positions of its children.
#[derive(Debug)]
pub(crate) struct Frame {
    width: f64,
    height: f64,
    /// One for each child that is created, in the template's order.
    pub(crate) children: Vec<ChildFrame>,
}

/// A child, with its position relative to the parent.
#[derive(Debug)]
pub(crate) struct ChildFrame {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) frame: Frame,
}

impl Frame {
    /// Lays out a node. Children with `spawning: false` take no space.
    pub(crate) fn of(node: &Node) -> Self {
        let frames: Vec<Self> = node.children.iter().filter(|child| child.spawns()).map(Self::of).collect();
        if frames.is_empty() {
            return Self { width: LEAF.0, height: LEAF.1, children: Vec::new() };
        }
        let columns = frames.len().min(COLUMNS);
        let column_width = frames.iter().map(|frame| frame.width).fold(0.0, f64::max);
        let mut children = Vec::with_capacity(frames.len());
        let mut y = HEADER;
        let mut rest = frames.into_iter().peekable();
        while rest.peek().is_some() {
            let row: Vec<Self> = rest.by_ref().take(COLUMNS).collect();
            let row_height = row.iter().map(|frame| frame.height).fold(0.0, f64::max);
            let mut x = PADDING;
            for frame in row {
                children.push(ChildFrame { x, y, frame });
                x += column_width + GUTTER;
            }
            y += row_height + GUTTER;
        }
        #[allow(clippy::cast_precision_loss)] // 1 or 2
        let columns = columns as f64;
        Self {
            width: 2.0 * PADDING + column_width * columns + GUTTER * (columns - 1.0),
            height: y - GUTTER + PADDING,
            children,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parent(children: usize) -> Node {
        Node { children: vec![Node::default(); children], ..Node::default() }
    }

    fn positions(frame: &Frame) -> Vec<(f64, f64)> {
        frame.children.iter().map(|child| (child.x, child.y)).collect()
    }

    #[test]
    fn sizes_and_positions_are_those_of_the_canvas() {
        for (children, size) in
            [(0, (240.0, 130.0)), (1, (272.0, 276.0)), (3, (526.0, 420.0)), (6, (526.0, 564.0))]
        {
            let frame = Frame::of(&parent(children));
            assert_eq!((frame.width, frame.height), size, "{children}");
        }
        assert_eq!(positions(&Frame::of(&parent(3))), [(16.0, 130.0), (270.0, 130.0), (16.0, 274.0)]);
        assert_eq!(positions(&Frame::of(&parent(1))), [(16.0, 130.0)]);
    }

    #[test]
    fn children_with_spawning_false_leave_no_gap() {
        let mut node = parent(3);
        node.children[1].spawning = Some(false);
        assert_eq!(positions(&Frame::of(&node)), [(16.0, 130.0), (270.0, 130.0)]);
    }

    #[test]
    fn a_row_is_as_high_as_its_highest_child() {
        let node = Node { children: vec![parent(1), Node::default(), Node::default()], ..Node::default() };
        assert_eq!(positions(&Frame::of(&node)), [(16.0, 130.0), (302.0, 130.0), (16.0, 420.0)]);
    }
}
