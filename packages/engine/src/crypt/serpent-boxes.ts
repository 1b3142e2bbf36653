/** The boxes of Serpent and their inverses on 32 columns at once: bit i of the four words is one input. Every output bit is written as the sum (exclusive or) of products of
 *  input bits, its algebraic normal form, which follows from the tables of the paper (Anderson, Biham, Knudsen: "Serpent: A Proposal for the Advanced Encryption Standard", 1998,
 *  appendix A.5). Tests compare with those tables. */

/** One box on the four words. */
export type Box = (words: Int32Array) => void

function s0(w: Int32Array): void {
  const a = w[0] as number
  const b = w[1] as number
  const c = w[2] as number
  const d = w[3] as number
  const ab = a & b
  const ac = a & c
  const bc = b & c
  const ad = a & d
  const bd = b & d
  const cd = c & d
  const abc = a & bc
  const acd = a & cd
  const bcd = b & cd
  w[0] = ~(a ^ ab ^ c ^ ac ^ bc ^ abc ^ d ^ acd ^ bcd)
  w[1] = ~(a ^ ac ^ bc ^ abc ^ bd ^ acd ^ bcd)
  w[2] = b ^ ab ^ ac ^ abc ^ d ^ bd ^ bcd
  w[3] = a ^ b ^ c ^ d ^ ad
}

function s1(w: Int32Array): void {
  const a = w[0] as number
  const b = w[1] as number
  const c = w[2] as number
  const d = w[3] as number
  const ab = a & b
  const ac = a & c
  const bc = b & c
  const ad = a & d
  const bd = b & d
  const cd = c & d
  const abd = a & bd
  const acd = a & cd
  const bcd = b & cd
  w[0] = ~(a ^ b ^ bc ^ ad ^ cd ^ acd ^ bcd)
  w[1] = ~(a ^ ab ^ c ^ ac ^ d ^ bd ^ abd ^ acd ^ bcd)
  w[2] = ~(b ^ ab ^ c ^ d)
  w[3] = ~(b ^ ac ^ d ^ ad ^ abd ^ acd ^ bcd)
}

function s2(w: Int32Array): void {
  const a = w[0] as number
  const b = w[1] as number
  const c = w[2] as number
  const d = w[3] as number
  const ac = a & c
  const bc = b & c
  const ad = a & d
  const bd = b & d
  const cd = c & d
  const abc = a & bc
  const abd = a & bd
  const acd = a & cd
  w[0] = b ^ c ^ ac ^ d
  w[1] = a ^ b ^ c ^ bc ^ abc ^ ad ^ abd ^ cd ^ acd
  w[2] = a ^ b ^ bc ^ d ^ bd ^ abd ^ cd ^ acd
  w[3] = ~(a ^ b ^ c ^ abc ^ bd)
}

function s3(w: Int32Array): void {
  const a = w[0] as number
  const b = w[1] as number
  const c = w[2] as number
  const d = w[3] as number
  const ab = a & b
  const ac = a & c
  const bc = b & c
  const ad = a & d
  const bd = b & d
  const cd = c & d
  const abc = a & bc
  const abd = a & bd
  const acd = a & cd
  const bcd = b & cd
  w[0] = a ^ b ^ bc ^ d ^ ad ^ cd ^ acd ^ bcd
  w[1] = a ^ b ^ ac ^ ad ^ abd ^ cd ^ acd
  w[2] = a ^ ab ^ c ^ abc ^ d ^ bd ^ abd
  w[3] = a ^ b ^ ab ^ c ^ ac ^ abc ^ d ^ cd ^ acd
}

function s4(w: Int32Array): void {
  const a = w[0] as number
  const b = w[1] as number
  const c = w[2] as number
  const d = w[3] as number
  const ab = a & b
  const ac = a & c
  const bc = b & c
  const ad = a & d
  const bd = b & d
  const cd = c & d
  const abc = a & bc
  const abd = a & bd
  const acd = a & cd
  const bcd = b & cd
  w[0] = ~(b ^ ab ^ c ^ d ^ ad ^ bd)
  w[1] = a ^ ac ^ bc ^ d ^ bd ^ cd ^ acd ^ bcd
  w[2] = a ^ ab ^ c ^ bc ^ abc ^ bd ^ abd ^ cd ^ bcd
  w[3] = a ^ b ^ c ^ bc ^ ad ^ bd ^ abd
}

function s5(w: Int32Array): void {
  const a = w[0] as number
  const b = w[1] as number
  const c = w[2] as number
  const d = w[3] as number
  const ab = a & b
  const ac = a & c
  const bc = b & c
  const ad = a & d
  const bd = b & d
  const cd = c & d
  const abc = a & bc
  const abd = a & bd
  const acd = a & cd
  const bcd = b & cd
  w[0] = ~(b ^ ab ^ c ^ d ^ ad ^ bd)
  w[1] = ~(a ^ ab ^ c ^ d ^ bd ^ abd ^ cd)
  w[2] = ~(b ^ ac ^ d ^ abd ^ cd ^ acd ^ bcd)
  w[3] = ~(a ^ b ^ c ^ abc ^ d ^ ad ^ acd)
}

function s6(w: Int32Array): void {
  const a = w[0] as number
  const b = w[1] as number
  const c = w[2] as number
  const d = w[3] as number
  const ab = a & b
  const ac = a & c
  const bc = b & c
  const ad = a & d
  const bd = b & d
  const cd = c & d
  const abc = a & bc
  const abd = a & bd
  const bcd = b & cd
  w[0] = ~(a ^ b ^ c ^ ac ^ bc ^ abc ^ d ^ abd ^ bcd)
  w[1] = ~(b ^ c ^ ad)
  w[2] = ~(a ^ ab ^ c ^ bc ^ abc ^ bd ^ abd ^ cd ^ bcd)
  w[3] = b ^ ab ^ c ^ ac ^ abc ^ d ^ cd ^ bcd
}

function s7(w: Int32Array): void {
  const a = w[0] as number
  const b = w[1] as number
  const c = w[2] as number
  const d = w[3] as number
  const ab = a & b
  const ac = a & c
  const bc = b & c
  const ad = a & d
  const bd = b & d
  const cd = c & d
  const abc = a & bc
  const abd = a & bd
  const acd = a & cd
  const bcd = b & cd
  w[0] = ~(ab ^ c ^ ad ^ bd ^ cd ^ acd ^ bcd)
  w[1] = b ^ ab ^ c ^ ac ^ bc ^ d ^ ad ^ abd ^ acd
  w[2] = a ^ b ^ c ^ abc ^ d ^ ad ^ bd ^ abd ^ bcd
  w[3] = a ^ b ^ c ^ ac ^ abc ^ ad
}

function i0(w: Int32Array): void {
  const a = w[0] as number
  const b = w[1] as number
  const c = w[2] as number
  const d = w[3] as number
  const ab = a & b
  const ac = a & c
  const bc = b & c
  const ad = a & d
  const bd = b & d
  const cd = c & d
  const abd = a & bd
  const acd = a & cd
  const bcd = b & cd
  w[0] = ~(ab ^ c ^ bc ^ ad ^ bd ^ abd ^ cd ^ acd ^ bcd)
  w[1] = a ^ b ^ c ^ ac ^ bd ^ acd ^ bcd
  w[2] = ~(a ^ b ^ ab ^ c ^ d)
  w[3] = ~(a ^ bc ^ d ^ abd ^ cd ^ acd ^ bcd)
}

function i1(w: Int32Array): void {
  const a = w[0] as number
  const b = w[1] as number
  const c = w[2] as number
  const d = w[3] as number
  const ab = a & b
  const ac = a & c
  const bc = b & c
  const ad = a & d
  const bd = b & d
  const cd = c & d
  const abc = a & bc
  const acd = a & cd
  const bcd = b & cd
  w[0] = ~(a ^ b ^ ab ^ abc ^ bd ^ acd ^ bcd)
  w[1] = b ^ c ^ abc ^ d ^ ad ^ bd ^ acd ^ bcd
  w[2] = ~(a ^ b ^ ac ^ bc ^ abc ^ d ^ acd)
  w[3] = a ^ c ^ d ^ bd
}

function i2(w: Int32Array): void {
  const a = w[0] as number
  const b = w[1] as number
  const c = w[2] as number
  const d = w[3] as number
  const ab = a & b
  const bc = b & c
  const ad = a & d
  const bd = b & d
  const cd = c & d
  const abc = a & bc
  const abd = a & bd
  const acd = a & cd
  w[0] = a ^ b ^ c ^ bc ^ bd
  w[1] = b ^ ab ^ c ^ ad ^ abd ^ cd ^ acd
  w[2] = ~(a ^ ab ^ c ^ d ^ ad ^ bd ^ abd ^ acd)
  w[3] = ~(ab ^ bc ^ abc ^ d ^ acd)
}

function i3(w: Int32Array): void {
  const a = w[0] as number
  const b = w[1] as number
  const c = w[2] as number
  const d = w[3] as number
  const ab = a & b
  const ac = a & c
  const bc = b & c
  const ad = a & d
  const bd = b & d
  const cd = c & d
  const abc = a & bc
  const abd = a & bd
  const acd = a & cd
  const bcd = b & cd
  w[0] = a ^ c ^ bc ^ d ^ ad ^ bd ^ bcd
  w[1] = b ^ c ^ bc ^ abc ^ d ^ ad ^ acd ^ bcd
  w[2] = ab ^ ac ^ bc ^ ad ^ bd ^ abd ^ cd ^ acd
  w[3] = a ^ b ^ c ^ ac ^ abc ^ ad ^ abd ^ cd
}

function i4(w: Int32Array): void {
  const a = w[0] as number
  const b = w[1] as number
  const c = w[2] as number
  const d = w[3] as number
  const ab = a & b
  const ac = a & c
  const bc = b & c
  const ad = a & d
  const bd = b & d
  const cd = c & d
  const abc = a & bc
  const abd = a & bd
  const acd = a & cd
  w[0] = ~(a ^ b ^ c ^ d ^ ad ^ abd ^ cd ^ acd)
  w[1] = ab ^ c ^ ac ^ d ^ ad ^ acd
  w[2] = ~(a ^ b ^ ab ^ c ^ ac ^ abc ^ d ^ bd ^ abd)
  w[3] = b ^ ab ^ c ^ ad ^ abd ^ cd
}

function i5(w: Int32Array): void {
  const a = w[0] as number
  const b = w[1] as number
  const c = w[2] as number
  const d = w[3] as number
  const ab = a & b
  const ac = a & c
  const bc = b & c
  const ad = a & d
  const bd = b & d
  const cd = c & d
  const abc = a & bc
  const abd = a & bd
  const acd = a & cd
  w[0] = a ^ bc ^ d ^ abd
  w[1] = a ^ b ^ ac ^ bc ^ abc ^ d ^ ad ^ abd
  w[2] = a ^ ab ^ c ^ bd ^ abd ^ acd
  w[3] = ~(b ^ ab ^ c ^ abc ^ ad)
}

function i6(w: Int32Array): void {
  const a = w[0] as number
  const b = w[1] as number
  const c = w[2] as number
  const d = w[3] as number
  const ab = a & b
  const ac = a & c
  const bc = b & c
  const ad = a & d
  const bd = b & d
  const cd = c & d
  const abc = a & bc
  const abd = a & bd
  const bcd = b & cd
  w[0] = ~(a ^ ab ^ ac ^ bc ^ abc ^ d ^ abd ^ bcd)
  w[1] = ~(b ^ c ^ ac ^ d)
  w[2] = ~(a ^ b ^ bc ^ bd ^ abd ^ cd ^ bcd)
  w[3] = ~(b ^ ab ^ c ^ bc ^ abc ^ d ^ ad ^ abd ^ cd ^ bcd)
}

function i7(w: Int32Array): void {
  const a = w[0] as number
  const b = w[1] as number
  const c = w[2] as number
  const d = w[3] as number
  const ab = a & b
  const ac = a & c
  const bc = b & c
  const ad = a & d
  const bd = b & d
  const cd = c & d
  const abc = a & bc
  const abd = a & bd
  const acd = a & cd
  const bcd = b & cd
  w[0] = ~(a ^ b ^ bc ^ bd ^ abd ^ cd ^ bcd)
  w[1] = ~(a ^ c ^ bc ^ d ^ ad ^ bd ^ acd ^ bcd)
  w[2] = b ^ ac ^ d ^ abd ^ cd ^ acd
  w[3] = ab ^ c ^ abc ^ ad ^ bd ^ abd
}

/** The boxes S0 to S7, in this order. */
export const boxes: readonly Box[] = [s0, s1, s2, s3, s4, s5, s6, s7]

/** Their inverses, in the same order. */
export const inverseBoxes: readonly Box[] = [i0, i1, i2, i3, i4, i5, i6, i7]
