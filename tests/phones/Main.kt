// Checks a tagger with golden.npz: java -jar JAR GOLDEN MODEL PRECISION; prints what the check says, and the pictures' sum.

import java.io.File
import java.nio.ByteBuffer

fun main(words: Array<String>) {
    val golden = File(words[0]).inputStream().use { Golden.read(it) }
    val model = File(words[1]).readBytes()
    val buffer = ByteBuffer.allocateDirect(model.size).put(model)
    buffer.rewind()
    Tagger(buffer, golden.size, golden.labels).use { println(golden.disagreement(it, words[2]) ?: "agrees") }
    println("${golden.count} ${golden.size} ${golden.labels} ${golden.pictures.sumBy { it.toInt() and 0xff }}")
}
