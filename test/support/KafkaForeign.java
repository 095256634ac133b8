import java.util.Base64;
import java.util.Properties;
import java.util.Scanner;
import java.util.ArrayList;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The Java client as a foreign producer: arguments brokers, topic, codec; lines of base64 key, tab, base64 value (an
 * empty value is a tombstone). Prints partition and offset of each record, one a line.
 */
public class KafkaForeign {
  public static void main(String[] args) throws Exception {
    Properties config = new Properties();
    config.put("bootstrap.servers", args[0]);
    config.put("compression.type", args[2]);
    config.put("linger.ms", "50");
    config.put("batch.size", "65536");
    config.put("max.request.size", "20000000");
    config.put("key.serializer", ByteArraySerializer.class.getName());
    config.put("value.serializer", ByteArraySerializer.class.getName());
    ArrayList<Future<RecordMetadata>> sent = new ArrayList<>();
    try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(config);
        Scanner lines = new Scanner(System.in)) {
      while (lines.hasNextLine()) {
        String[] cells = lines.nextLine().split("\t", -1);
        byte[] key = Base64.getDecoder().decode(cells[0]);
        byte[] value = cells[1].isEmpty() ? null : Base64.getDecoder().decode(cells[1]);
        sent.add(producer.send(new ProducerRecord<>(args[1], key, value)));
      }
      producer.flush();
    }
    StringBuilder text = new StringBuilder();
    for (Future<RecordMetadata> each : sent) {
      text.append(each.get().partition()).append('\t').append(each.get().offset()).append('\n');
    }
    System.out.print(text);
  }
}
